"""The line that a run ends with."""

from pathlib import Path

import pytest

from supermix_pl.experiments.train import _result

METRICS = {"test/accuracy": 0.5, "val/accuracy_best": 0.625, "best_epoch": 3, "fit_seconds": 61.2}


@pytest.mark.parametrize(("on_test", "found"), [(False, "(epoch 3)"), (True, "(epoch 3, found on the test images as")])
def test_the_result_says_which_images_the_best_epoch_was_found_on(on_test: bool, found: str) -> None:
    line = _result(METRICS, Path("run/metrics.json"), on_test=on_test)
    assert "test accuracy 50.00 % after the last epoch, validation accuracy 62.50 % in the best" in line
    assert found in line
    assert line.endswith("0:01:01 of training; run/metrics.json")


def test_the_result_says_how_good_teacher_and_mixes_were() -> None:
    metrics = METRICS | {"teacher/accuracy": 0.7174, "supermix/holds": 0.774}
    line = _result(metrics, Path("run/metrics.json"), on_test=False)
    assert "; the teacher has 71.74 %; 77 % of the mixes held; 0:01:01 of training" in line


def test_the_result_tells_where_no_epoch_was_validated() -> None:
    line = _result({"test/accuracy": 0.5, "fit_seconds": 1.0}, Path("run/metrics.json"), on_test=True)
    assert line.startswith("test accuracy 50.00 % after the last epoch, no epoch was validated; 0:00:01 of training")
