"""The operations of Fast AutoAugment's policies, on batches that one strength fits, by torchvision's functions."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as F

Images = UInt8[Tensor, "b 3 h w"]

CUTOUT = "Cutout"  # needs a place in every image besides its strength: see `Policy`


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One step of a sub-policy.

    Strengths are, for ShearX and ShearY, pixels across for each pixel down and the reverse; TranslateX and TranslateY,
    part of width and height, whole pixels of it; Rotate, degrees; Brightness, Color, Contrast and Sharpness, change,
    where 0 leaves the image as it is and -1 makes it black, grey, one grey, smooth; Posterize, bits that are kept,
    0 to 8; Solarize, least pixel value that is inverted, above 255 none is; Cutout, part of the width. AutoContrast,
    Equalize and Invert have none.

    Args:
        name: Of those above.
        probability: That the step is taken, in [0, 1].
        strength: In the unit of the operation.
        mirrored: Whether half of the images get the negative strength.
    """

    name: str
    probability: float = 1.0
    strength: float = 0.0
    mirrored: bool = False


def apply_operation(images: Images, name: str, strength: float) -> Images:
    """Applies an operation at one strength; what moves in from outside is black, pixels come from the nearest.

    Raises:
        KeyError: If the operation is unknown, or is Cutout.
    """
    return _FUNCTIONS[name](images, strength)


def _affine(images: Images, *, shift: tuple[int, int] = (0, 0), shear: tuple[float, float] = (0.0, 0.0)) -> Images:
    degrees = [math.degrees(math.atan(amount)) for amount in shear]
    # Shears keep the first row and column in place, as in AutoAugment's code
    centre = None if shear == (0.0, 0.0) else [0.0, 0.0]
    return F.affine(images, angle=0.0, translate=list(shift), scale=1.0, shear=degrees, center=centre)


def _solarize(images: Images, threshold: float) -> Images:
    return images if threshold > 255 else F.solarize(images, threshold)


_FUNCTIONS: Mapping[str, Callable[[Images, float], Images]] = {
    "ShearX": lambda images, amount: _affine(images, shear=(amount, 0.0)),
    "ShearY": lambda images, amount: _affine(images, shear=(0.0, amount)),
    "TranslateX": lambda images, part: _affine(images, shift=(int(part * images.shape[3]), 0)),
    "TranslateY": lambda images, part: _affine(images, shift=(0, int(part * images.shape[2]))),
    "Rotate": lambda images, degrees: F.rotate(images, degrees),
    "Brightness": lambda images, change: F.adjust_brightness(images, 1 + change),
    "Color": lambda images, change: F.adjust_saturation(images, 1 + change),
    "Contrast": lambda images, change: F.adjust_contrast(images, 1 + change),
    "Sharpness": lambda images, change: F.adjust_sharpness(images, 1 + change),
    "Posterize": lambda images, bits: F.posterize(images, int(bits)),
    "Solarize": _solarize,
    "AutoContrast": lambda images, _: F.autocontrast(images),
    "Equalize": lambda images, _: F.equalize(images),
    "Invert": lambda images, _: F.invert(images),
}
