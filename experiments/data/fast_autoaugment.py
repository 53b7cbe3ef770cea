"""Fast AutoAugment (Lim et al., 2019): policies that others have searched, read from a file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supermix_pl.experiments.data.operations import CUTOUT, Operation
from supermix_pl.experiments.data.sub_policies import Policy, SubPolicy

EXAMPLE = Path(__file__).with_name("fast_autoaugment_example.json")

# Strengths at levels 0 and 1, in the units of `Operation`, and whether half of them are mirrored
_RANGES: Mapping[str, tuple[float, float, bool]] = {
    "ShearX": (-0.3, 0.3, True),
    "ShearY": (-0.3, 0.3, True),
    "TranslateX": (-0.45, 0.45, True),
    "TranslateY": (-0.45, 0.45, True),
    "Rotate": (-30.0, 30.0, True),
    "AutoContrast": (0.0, 0.0, False),
    "Invert": (0.0, 0.0, False),
    "Equalize": (0.0, 0.0, False),
    "Solarize": (0.0, 256.0, False),
    "Posterize": (4.0, 8.0, False),
    "Contrast": (-0.9, 0.9, False),
    "Color": (-0.9, 0.9, False),
    "Brightness": (-0.9, 0.9, False),
    "Sharpness": (-0.9, 0.9, False),
    CUTOUT: (0.0, 0.2, False),
}


@dataclass(frozen=True, kw_only=True)
class FastAutoAugment(Policy):
    """Fast AutoAugment with the policy of a file.

    The file is JSON: a list of sub-policies, each a list of `[operation, probability, level]` with probability and
    level in [0, 1], as the published policies are written:

        [[["ShearX", 0.5, 0.8], ["Equalize", 0.7, 0.0]], [["Rotate", 0.6, 0.9], ["Cutout", 0.4, 0.5]]]

    A level runs over the range that the search had: ShearX and ShearY -0.3 to 0.3, TranslateX and TranslateY -0.45 to
    0.45 of the side, Rotate -30 to 30 degrees (half of these five mirrored), Solarize 0 to 256, Posterize 4 to 8 bits,
    Contrast, Color, Brightness and Sharpness factor 0.1 to 1.9, Cutout 0 to 0.2 of the width; AutoContrast, Invert and
    Equalize have no level.

    Deviation: Cutout paints the data's mean colour, translations move whole pixels.

    Args:
        policy: The file, or "example" for one of our own to try things with: not the published policy, so its
            accuracies do not compare.
    """

    policy: str

    def __post_init__(self) -> None:
        self.sub_policies  # noqa: B018, a bad file is found here and not in the first epoch

    def _listed(self) -> Sequence[SubPolicy]:
        return read_policy(EXAMPLE if self.policy == "example" else Path(self.policy).expanduser())


def read_policy(path: Path) -> list[SubPolicy]:
    """Reads a policy file; see `FastAutoAugment`.

    Raises:
        ValueError: If the file is missing, not JSON, or not such a list; the message has the place in it.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"expected a policy file of JSON, got {path}, which cannot be read: {error}") from error
    if not _is_list(entries):
        raise ValueError(f"expected a list of sub-policies in {path}, got {_shown(entries)}")
    return [_sub_policy(entry, f"sub-policy {number} of {path}") for number, entry in enumerate(entries)]


def _sub_policy(entry: Any, place: str) -> SubPolicy:
    if not _is_list(entry):
        raise ValueError(f"expected a list of [operation, probability, level], got {_shown(entry)} as {place}")
    return tuple(_operation(step, f"{place}, operation {number}") for number, step in enumerate(entry))


def _operation(step: Any, place: str) -> Operation:
    if not isinstance(step, list) or len(step) != 3:
        raise ValueError(f"expected [operation, probability, level], got {_shown(step)} in {place}")
    name, probability, level = step
    if not isinstance(name, str) or name not in _RANGES:
        raise ValueError(f"expected an operation of {', '.join(_RANGES)}, got {_shown(name)} in {place}")
    for what, value in (("probability", probability), ("level", level)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ValueError(f"expected {what} in [0, 1], got {_shown(value)} in {place}")
    low, high, mirrored = _RANGES[name]
    return Operation(name=name, probability=probability, strength=low + level * (high - low), mirrored=mirrored)


def _is_list(entries: Any) -> bool:
    return isinstance(entries, list) and len(entries) > 0


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
