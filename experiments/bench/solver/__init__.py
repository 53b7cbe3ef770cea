"""What named mixers solve, what holds, and what they cost."""
