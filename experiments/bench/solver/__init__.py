"""What mixers solve, what holds, and what that costs."""
