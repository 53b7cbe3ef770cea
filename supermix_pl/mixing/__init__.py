"""What a mixed batch is, and the mixers."""

from supermix_pl.mixing.blind import BlindMixer, Composed, DirectMixer
from supermix_pl.mixing.choosing import Chosen
from supermix_pl.mixing.cutmix import CutMix
from supermix_pl.mixing.fmix import FMix
from supermix_pl.mixing.function import FunctionMixer, as_mixer
from supermix_pl.mixing.mixer import MixedBatch, Mixer, Seed
from supermix_pl.mixing.mixup import MixUp
from supermix_pl.mixing.one_of import OneOf
from supermix_pl.mixing.presenting import present
from supermix_pl.mixing.puzzlemix import PuzzleMix
from supermix_pl.mixing.resizemix import ResizeMix
from supermix_pl.mixing.saliencymix import SaliencyMix
from supermix_pl.mixing.supermix import SuperMix

# fmt: off
__all__ = [
    "BlindMixer", "Chosen", "Composed", "CutMix", "DirectMixer", "FMix", "FunctionMixer", "MixUp", "MixedBatch",
    "Mixer", "OneOf", "PuzzleMix", "ResizeMix", "SaliencyMix", "Seed", "SuperMix", "as_mixer", "present",
]
# fmt: on
