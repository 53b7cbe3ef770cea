"""Centre and spread of what was repeated."""

import pytest

from supermix_pl.experiments.shared.statistics import interval, mean_cell, median_cell


def test_intervals_by_hand() -> None:
    assert interval((1.0, 2.0, 3.0)) == (2.0, pytest.approx(4.302652729749464 / 3**0.5))
    assert interval([5.0]) == (5.0, 0.0)


def test_what_could_not_be_measured_is_left_out() -> None:
    assert mean_cell([1.0, None, 2.0, 6.0], 2) == "3.00 ± 2.65"
    assert median_cell([1.0, 2.0, None, 6.0], 1) == "2.0 (1.0 - 6.0)"
    assert mean_cell([2.0], 1) == median_cell([2.0], 1) == "2.0"
    assert mean_cell([None], 1) == median_cell([None], 1) == "-"
    assert mean_cell([0.25], 0, 100) == "25"
