"""What a program hushes is heard again after it, however it ends."""

import logging
import warnings

import pytest
from pytorch_lightning.utilities import rank_zero_info

from supermix_pl.experiments.shared.quiet import quiet_lightning


def test_notes_are_held_back_and_heard_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="pytorch_lightning")
    with quiet_lightning():
        rank_zero_info("within")
    rank_zero_info("after")
    assert [record.getMessage() for record in caplog.records] == ["after"]


def test_all_is_as_before_after_an_error() -> None:
    names = ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero", "lightning_fabric")
    before = [logging.getLogger(name).level for name in names], list(warnings.filters)
    with pytest.raises(ZeroDivisionError), quiet_lightning():
        raise ZeroDivisionError
    assert ([logging.getLogger(name).level for name in names], list(warnings.filters)) == before
