"""Mixing at a constant cost: sets are solved over many training steps, and every pass of the teacher is a lesson."""

from supermix_pl.engine.stream.engine import StreamEngine

__all__ = ["StreamEngine"]
