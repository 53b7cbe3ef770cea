"""When the sets of a batch are solved."""

from supermix_pl.engine.base import Engine, Run, count_mixes
from supermix_pl.engine.batch import BatchEngine
from supermix_pl.engine.stream import StreamEngine

__all__ = ["BatchEngine", "Engine", "Run", "StreamEngine", "count_mixes"]
