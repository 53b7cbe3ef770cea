"""What lives as long as a fit, and what of it the next fit of the same trainer goes on with."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from supermix_pl.engine import Engine, Run
from supermix_pl.pictures.logger import Pictures
from supermix_pl.teacher.moving_average import Averaged
from supermix_pl.trainer.distilling import Distillation
from supermix_pl.trainer.interception import Interception
from supermix_pl.trainer.log import MixingLog
from supermix_pl.trainer.side_files import SideFiles
from supermix_pl.trainer.stopwatch import Stopwatch
from supermix_pl.trainer.wrapping import Wrapped


class Fit:
    """Catches the batches of a fit, times them, draws them, and writes files beside its checkpoints, until it ends.

    It ends with the teardown of the strategy, which Lightning calls after an exception too, when others have saved what
    they save of it. The strategy then has its own methods again.

    Args:
        rewrite: Gives the batch that `training_step` is to see.
        on_end: Is called once, when the fit ends.
        pictures_every: Batches from picture to picture; None for no pictures.
        save_state: Whether the engine's tensors are saved beside the checkpoints.

    Attributes:
        checkpoint: Path of the checkpoint whose run goes on, until its files were read.
        trained: Whether training has begun, or an earlier fit of the trainer goes on.
        mixing: Whether a batch is being mixed; still so after an exception from there.
        validating: Whether the trainer validates, which code of the user's may let it do in the midst of a step.
    """

    def __init__(
        self,
        trainer: Any,
        module: Any,
        engine: Engine,
        rewrite: Callable[[Any], Any],
        on_end: Callable[[], None],
        *,
        pictures_every: int | None,
        save_state: bool,
        distillation: Distillation | None,
    ) -> None:
        self.trainer, self.module = trainer, module
        self.checkpoint: Any = None
        self.trained = self.mixing = self.validating = False
        self.stopwatch = Stopwatch(trainer.strategy.root_device)
        self.log = MixingLog(engine, self.stopwatch)
        engine.begin(
            Run(
                is_first_rank=trainer.global_rank == 0,
                broadcast=trainer.strategy.broadcast,
                training_seconds=self.stopwatch.training_seconds,
            )
        )
        self.interception = Interception(trainer, rewrite)
        self.distillation = distillation
        self.pictures = None if pictures_every is None else Pictures(pictures_every, trainer)
        self._ours: list[Wrapped] = [self.interception] if distillation is None else [self.interception, distillation]
        if save_state:
            rank, ranks = trainer.global_rank, trainer.world_size
            self._ours.append(SideFiles(trainer.strategy, rank, engine.tensors, lambda: engine.steps, ranks))
        teardown = trainer.strategy.teardown

        def end_and_teardown() -> None:
            on_end()
            teardown()

        self._ours.append(Wrapped(trainer.strategy, teardown=end_and_teardown))

    @property
    def batch_number(self) -> int:
        """Training batches before the one that is fetched or trained on now; restored when a run resumes."""
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.completed

    def is_in_step(self, number: int) -> bool:
        """Return whether the trainer is in the training step of a batch, from its transfer to `on_train_batch_end`."""
        return not self.validating and self.batch_number == number

    def end(self) -> None:
        """Give the strategy its own methods back."""
        while self._ours:
            self._ours.pop().remove()


@dataclass
class Kept:
    """What a fit has come to, for the next one of the same trainer and module, with which Lightning trains on."""

    module: weakref.ref[Any]
    engine: dict[str, Any]
    tensors: dict[str, Tensor]
    averaged: Averaged | None
