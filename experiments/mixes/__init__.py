"""A fixed data set D' of mixes: made once, kept in shards, trained on many times."""

from supermix_pl.experiments.mixes.generation import Plan, describe, describe_mixer, generate
from supermix_pl.experiments.mixes.misplaced import MisplacedMixes
from supermix_pl.experiments.mixes.replay import ReplayEngine
from supermix_pl.experiments.mixes.shards import FixedMixes, Mixes

__all__ = ["FixedMixes", "MisplacedMixes", "Mixes", "Plan", "ReplayEngine", "describe", "describe_mixer", "generate"]
