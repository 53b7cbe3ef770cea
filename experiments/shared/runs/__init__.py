"""Finished runs: where they lie, what each is a run of, and the paper's numbers that they stand beside."""
