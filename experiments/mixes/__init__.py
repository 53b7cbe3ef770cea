"""Rows beside the natural ones that are made before the training: fixed mixes, kept in shards, and external images."""

from supermix_pl.experiments.mixes.beside import Beside, External, Fixed, Folder, Setting
from supermix_pl.experiments.mixes.description import Plan
from supermix_pl.experiments.mixes.generation import generate
from supermix_pl.experiments.mixes.misplaced import MisplacedMixes
from supermix_pl.experiments.mixes.replay import ReplayEngine
from supermix_pl.experiments.mixes.shards import FixedMixes, Mixes
