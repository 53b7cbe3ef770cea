"""A fixed data set D' of mixes: made once, kept in shards, trained on many times."""

from supermix_pl.experiments.mixes.generation import Plan, describe, generate
from supermix_pl.experiments.mixes.replay import ReplayEngine
from supermix_pl.experiments.mixes.shards import FixedMixes, Mixes

__all__ = ["FixedMixes", "Mixes", "Plan", "ReplayEngine", "describe", "generate"]
