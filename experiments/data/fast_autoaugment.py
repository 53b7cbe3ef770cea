"""Fast AutoAugment (Lim et al., 2019): policies that others have searched, read from a file."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from supermix_pl.experiments.data.augment import cut_out
from supermix_pl.experiments.data.policies import TorchvisionPolicy

EXAMPLE = Path(__file__).with_name("fast_autoaugment_example.json")

Pixels = UInt8[Tensor, "3 h w"]
Step = tuple[str, float, float]
"""An operation, the probability that it is taken, and its strength in the unit of the operation's range."""
SubPolicy = tuple[Step, ...]
_GREY = np.array([125, 123, 114], np.uint8)  # of Cutout, as in the published code


def _affine(image: Pixels, *, shift: tuple[int, int] = (0, 0), shear: tuple[float, float] = (0.0, 0.0)) -> Pixels:
    degrees = [math.degrees(math.atan(amount)) for amount in shear]
    # Shears keep the first row and column in place, as in AutoAugment's code
    centre = None if shear == (0.0, 0.0) else [0.0, 0.0]
    return F.affine(image, angle=0.0, translate=list(shift), scale=1.0, shear=degrees, center=centre)


def _cut_out(image: Pixels, size: int) -> Pixels:
    return cut_out(image[None], torch.rand(1, 2).numpy(), size=size, fill=_GREY)[0]


# Strengths at levels 0 and 1, whether half of the images get the negative one, and what it does; what moves in from
# outside is black, pixels come from the nearest
_OPERATIONS: Mapping[str, tuple[float, float, bool, Callable[[Pixels, float], Pixels]]] = {
    "ShearX": (-0.3, 0.3, True, lambda image, amount: _affine(image, shear=(amount, 0.0))),
    "ShearY": (-0.3, 0.3, True, lambda image, amount: _affine(image, shear=(0.0, amount))),
    "TranslateX": (-0.45, 0.45, True, lambda image, part: _affine(image, shift=(int(part * image.shape[2]), 0))),
    "TranslateY": (-0.45, 0.45, True, lambda image, part: _affine(image, shift=(0, int(part * image.shape[1])))),
    "Rotate": (-30.0, 30.0, True, lambda image, degrees: F.rotate(image, degrees)),
    "AutoContrast": (0.0, 0.0, False, lambda image, _: F.autocontrast(image)),
    "Invert": (0.0, 0.0, False, lambda image, _: F.invert(image)),
    "Equalize": (0.0, 0.0, False, lambda image, _: F.equalize(image)),
    "Solarize": (0.0, 256.0, False, lambda image, least: image if least > 255 else F.solarize(image, least)),
    "Posterize": (4.0, 8.0, False, lambda image, bits: F.posterize(image, int(bits))),
    "Contrast": (-0.9, 0.9, False, lambda image, change: F.adjust_contrast(image, 1 + change)),
    "Color": (-0.9, 0.9, False, lambda image, change: F.adjust_saturation(image, 1 + change)),
    "Brightness": (-0.9, 0.9, False, lambda image, change: F.adjust_brightness(image, 1 + change)),
    "Sharpness": (-0.9, 0.9, False, lambda image, change: F.adjust_sharpness(image, 1 + change)),
    "Cutout": (0.0, 0.2, False, lambda image, share: _cut_out(image, round(share * image.shape[2]))),
}


@dataclass(frozen=True, kw_only=True)
class FastAutoAugment(TorchvisionPolicy):
    """Fast AutoAugment with the policy of a file.

    The file is JSON: a list of sub-policies, each a list of `[operation, probability, level]` with probability and
    level in [0, 1], as the published policies are written:

        [[["ShearX", 0.5, 0.8], ["Equalize", 0.7, 0.0]], [["Rotate", 0.6, 0.9], ["Cutout", 0.4, 0.5]]]

    A level runs over the range that the search had: ShearX and ShearY -0.3 to 0.3, TranslateX and TranslateY -0.45 to
    0.45 of the side, Rotate -30 to 30 degrees (half of these five mirrored), Solarize 0 to 256, Posterize 4 to 8 bits,
    Contrast, Color, Brightness and Sharpness factor 0.1 to 1.9, Cutout 0 to 0.2 of the width; AutoContrast, Invert and
    Equalize have no level.

    Deviation: translations move whole pixels.

    Args:
        policy: The file, or "example" for one of our own to try things with: not the published policy, so its
            accuracies do not compare.
    """

    policy: str

    def __post_init__(self) -> None:
        self.sub_policies  # noqa: B018, a bad file is found here and not in the first epoch

    @cached_property
    def sub_policies(self) -> Sequence[SubPolicy]:
        """What is drawn from for every image, all equally likely."""
        return tuple(read_policy(EXAMPLE if self.policy == "example" else Path(self.policy).expanduser()))

    def torchvisions(self) -> Callable[[Pixels], Pixels]:
        return self._view

    def _view(self, image: Pixels) -> Pixels:
        for name, probability, strength in self.sub_policies[int(torch.randint(len(self.sub_policies), ()))]:
            if torch.rand(()) < probability:
                *_, mirrored, operation = _OPERATIONS[name]
                image = operation(image, -strength if mirrored and torch.rand(()) < 0.5 else strength)
        return image


def read_policy(path: Path) -> list[SubPolicy]:
    """Reads a policy file; see `FastAutoAugment`.

    Raises:
        ValueError: If the file is missing, not JSON, or not such a list; the message has the place in it.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"expected a policy file of JSON, got {path}, which cannot be read: {error}") from error
    lists = isinstance(entries, list) and all(isinstance(entry, list) and entry for entry in entries)
    if not lists or not entries:
        raise ValueError(f"expected a list of sub-policies, each a list, in {path}, got {str(entries)[:60]}")
    return [
        tuple(_step(step, f"sub-policy {number} of {path}, operation {place}") for place, step in enumerate(entry))
        for number, entry in enumerate(entries)
    ]


def _step(step: Any, place: str) -> Step:
    match step:
        case [str(name), int() | float() as probability, int() | float() as level] if (
            name in _OPERATIONS and 0 <= probability <= 1 and 0 <= level <= 1
        ):
            low, high, *_ = _OPERATIONS[name]
            return name, probability, low + level * (high - low)
    raise ValueError(
        f"expected [operation, probability, level], an operation of {', '.join(_OPERATIONS)} and two numbers in "
        f"[0, 1], got {str(step)[:60]} in {place}"
    )
