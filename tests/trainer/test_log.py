"""Means over the last batches."""

import pytest

from supermix_pl.trainer.log import RecentMeans


def test_means_run_over_the_period() -> None:
    recent = RecentMeans()
    given = [recent.add({"fresh": value, "ms": 1.0}, 3) for value in (6.0, 0.0, 0.0, 9.0, 0.0, 0.0, 9.0)]
    assert [each["fresh"] for each in given] == [6, 3, 2, 3, 3, 3, 3]
    assert all(each["ms"] == 1 for each in given)


def test_a_period_that_becomes_known_later_counts_from_then_on() -> None:
    recent = RecentMeans()
    assert [recent.add({"ms": value}, 1)["ms"] for value in (5.0, 7.0)] == [5, 7]
    assert [recent.add({"ms": value}, 2)["ms"] for value in (1.0, 3.0)] == [4, 2]
    assert recent.add({"ms": 8.0}, 1) == {"ms": pytest.approx(8)}
