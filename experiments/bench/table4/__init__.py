"""The paper's Table 4: what the update rules cost."""
