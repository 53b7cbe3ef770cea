"""One prepared script for a GPU: checks, then training steps."""
