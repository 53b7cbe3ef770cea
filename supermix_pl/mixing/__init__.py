"""What a mixed batch is, and the mixers: SuperMix, MixUp, CutMix."""

from supermix_pl.mixing.cutmix import CutMix
from supermix_pl.mixing.mixer import MixedBatch, Mixer, Seed
from supermix_pl.mixing.mixup import MixUp
from supermix_pl.mixing.supermix import SuperMix

__all__ = ["CutMix", "MixUp", "MixedBatch", "Mixer", "Seed", "SuperMix"]
