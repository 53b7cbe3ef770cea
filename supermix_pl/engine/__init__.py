"""When the sets of a batch are solved."""

from supermix_pl.engine.batch import BatchEngine, Engine

__all__ = ["BatchEngine", "Engine"]
