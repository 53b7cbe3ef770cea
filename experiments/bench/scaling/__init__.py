"""How passes, time and memory grow."""
