"""Lightning kept silent while a program prints its own table."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_PACKAGES = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric")


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hold back Lightning's notes on hardware and settings, and its warnings; afterwards all is as it was before.

    supermix_pl's notes go through Lightning's logger and are held back too; its warnings are shown.
    """
    loggers = [logging.getLogger(name) for each in _PACKAGES for name in (each, f"{each}.utilities.rank_zero")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        try:
            for logger in loggers:
                logger.setLevel(logging.WARNING)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
