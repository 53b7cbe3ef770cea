"""Which mixes hold, and at what cost."""
