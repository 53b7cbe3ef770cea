"""The paper's tables beside what was measured: `supermix-report`."""
