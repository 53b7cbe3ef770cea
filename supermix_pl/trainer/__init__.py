"""What reaches into a Lightning trainer: how batches are caught, rewritten, timed and logged, and how a fit ends."""
