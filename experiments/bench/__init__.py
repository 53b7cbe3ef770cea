"""Benchmarks: programs that measure, and write what they measured with all that is needed to repeat it."""
