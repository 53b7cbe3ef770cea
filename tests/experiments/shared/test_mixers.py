"""Mixers that are set side by side bear the names of what they are."""

import pytest

from supermix_pl import SuperMix
from supermix_pl.experiments.shared.mixers import named_mixers


@pytest.mark.parametrize("other", [SuperMix.fast(), SuperMix(objective="criterion"), SuperMix(views="auto")])
def test_no_other_solver_stands_under_the_name_of_the_papers(other: SuperMix) -> None:
    with pytest.raises(ValueError, match=r"expected mixer=supermix, .* got SuperMix\("):
        named_mixers(other)
