"""A training step with mixes beside one with MixUp."""
