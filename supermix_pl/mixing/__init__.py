"""What a mixed batch is, and the mixers: SuperMix, MixUp, CutMix."""

from supermix_pl.mixing.blind import BlindMixer, OneOf
from supermix_pl.mixing.cutmix import CutMix
from supermix_pl.mixing.mixer import FunctionMixer, MixedBatch, Mixer, Seed, takes_seed
from supermix_pl.mixing.mixup import MixUp
from supermix_pl.mixing.presenting import present
from supermix_pl.mixing.supermix import SuperMix

__all__ = [
    "BlindMixer",
    "CutMix",
    "FunctionMixer",
    "MixUp",
    "MixedBatch",
    "Mixer",
    "OneOf",
    "Seed",
    "SuperMix",
    "present",
    "takes_seed",
]
