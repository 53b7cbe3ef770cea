"""What lives as long as a fit: batches are caught, mixed, timed and drawn, and files lie beside its checkpoints."""

import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from supermix_pl.batch import is_exhausted
from supermix_pl.engine import BatchEngine, Run
from supermix_pl.mixing import MixUp
from supermix_pl.pictures.logger import Pictures
from supermix_pl.teacher.frozen import FrozenTeacher
from supermix_pl.trainer.advice import Advice
from supermix_pl.trainer.distilling import Distillation, DistillationSettings
from supermix_pl.trainer.interception import Interception, has_other_loaders
from supermix_pl.trainer.log import logged_step
from supermix_pl.trainer.rewriting import BatchRewriter, Rewritten, num_classes_of
from supermix_pl.trainer.schedule import Schedule
from supermix_pl.trainer.side_files import SideFiles
from supermix_pl.trainer.stopwatch import Stopwatch
from supermix_pl.trainer.supervision import Supervision
from supermix_pl.trainer.wrapping import Wrapped

NOTHING = Rewritten(None, None)
"""What belongs to no batch."""


@dataclass
class Kept:
    """What a fit has come to, for the next one of the same trainer and module, with which Lightning trains on."""

    module: weakref.ref[Any]
    state: dict[str, Any]
    tensors: dict[str, Tensor]


class Fit:
    """Hands training batches through the rewriter, and keeps what comes beside a batch for its training step.

    It ends with the teardown of the strategy, which Lightning calls after an exception too, when others have saved what
    they save of it. The strategy then has its own methods again. `on_end` is called once, at that moment.

    The other arguments are what a callback lends to each of its fits; the last three are arguments of its own.

    Attributes:
        trained: Whether training has begun, or an earlier fit of the trainer goes on.
        mixing: Whether a batch is being mixed; still so after an exception from there.
        milliseconds: Time of the last mixing on the host.
    """

    def __init__(
        self,
        trainer: Any,
        module: Any,
        on_end: Callable[[], None],
        *,
        rewriter: BatchRewriter,
        schedule: Schedule,
        supervision: Supervision,
        advice: Advice,
        distillation: DistillationSettings,
        log: bool,
        log_images_every: int | None,
        save_state: bool,
    ) -> None:
        self.trainer, self.module = trainer, module
        self._rewriter, self._schedule, self._supervision, self._advice = rewriter, schedule, supervision, advice
        self.trained = self.mixing = self._validating = False
        self.milliseconds = 0.0
        self._held, self._number = NOTHING, 0
        engine = rewriter.engine
        self.stopwatch = Stopwatch(trainer.strategy.root_device)
        engine.begin(Run(broadcast=trainer.strategy.broadcast, training_seconds=self.stopwatch.training_seconds))
        self.interception = Interception(trainer, self._rewrite)
        self._ours: list[Wrapped] = [self.interception]
        self._distillation: Distillation | None = None
        if distillation.weight:
            self._distillation = Distillation(
                trainer, module, lambda: self.current.teacher_logits, rewriter.images_of, distillation, log=log
            )
            self._ours.append(self._distillation)
        self._pictures = None if log_images_every is None else Pictures(log_images_every, trainer)
        if save_state:
            rank, ranks = trainer.global_rank, trainer.world_size
            files = SideFiles(
                trainer.strategy,
                rank,
                engine.tensors,
                lambda: engine.steps,
                ranks,
                lambda: ranks > 1 and trainer.interrupted,
            )
            self._ours.append(files)
        teardown = trainer.strategy.teardown

        def end_and_teardown() -> None:
            on_end()
            teardown()

        self._ours.append(Wrapped(trainer.strategy, teardown=end_and_teardown))

    @property
    def current(self) -> Rewritten:
        """What belongs to the training step that the trainer is in; nothing outside of one.

        A step lasts from the transfer of its batch to `on_train_batch_end`. Code of the user's may validate within it.
        """
        return self._held if not self._validating and self._batch_number == self._number else NOTHING

    @property
    def _batch_number(self) -> int:
        """Training batches before the one that is fetched or trained on now; restored when a run resumes."""
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.completed

    def let_go(self) -> None:
        """Let go of the last batch."""
        self._held = NOTHING

    def start(self) -> None:
        """Begin to train: let go of the last batch of a finder's trial run, and check what the module must have."""
        self.trained = True
        self.let_go()
        self._supervision.start(self.trainer, self.module)
        if self._distillation is not None:
            self._distillation.check(self.module)
        teacher = self._supervision.teacher
        if teacher is not None and teacher.features and not self._rewriter.label_natural:
            raise ValueError(
                f"expected label_natural=True for a teacher with features={teacher.features!r}, which come with "
                "teacher_logits, got False; turn it on, or leave the features out"
            )
        self._advice.judge_settings(self.trainer)

    def hide(self) -> None:
        """Hide the training batch from a validation within its step; let go of one whose step is over."""
        self._held = self.current
        self._validating = True

    def show(self) -> None:
        """Go on with the training step that a validation was in."""
        self._validating = False

    def end(self) -> None:
        """Give the strategy its own methods back."""
        while self._ours:
            self._ours.pop().remove()

    def _rewrite(self, batch: Any) -> Any:
        """Return the batch that `training_step` is to see."""
        if self._validating:
            return batch
        self.let_go()
        epoch, self._number = self.trainer.current_epoch, self._batch_number
        self._supervision.complete(self.trainer, self.module)
        self._supervision.stand_in(self.module)
        if has_other_loaders(self.trainer) and is_exhausted(batch, self._rewriter.input_key):
            return batch
        early = self._schedule.is_early(epoch)
        teacher = None if early and self._supervision.average is not None else self._supervision.teacher
        if self._schedule.mixes(epoch, self._number):
            rewritten = self._mixed(batch, teacher, early=early)
        else:
            n = None if self._rewriter.targets == "teacher" else self._num_classes(batch)
            rewritten = self._rewriter.leave_natural(batch, teacher, n)
        self._held = replace(rewritten, batch=None)
        return rewritten.batch

    def _mixed(self, batch: Any, teacher: FrozenTeacher | None, *, early: bool) -> Rewritten:
        """Mix a batch; blindly where it is early: a teacher that is there already only labels rows."""
        trainer, rewriter = self.trainer, self._rewriter
        images, labels = rewriter.images_of(batch), rewriter.labels_of(batch)
        start = time.perf_counter()
        self.mixing = True
        self.stopwatch.start()
        with trainer.profiler.profile("[SuperMix]mix"):
            if early:
                mixer = MixUp(k=rewriter.mixer.k, num_classes=self._num_classes(batch))
                teacher = teacher if rewriter.label_natural or rewriter.lacks_labels(batch) else None
                rewriter = replace(rewriter, mixer=mixer, engine=BatchEngine(), natural_share=0.0)
            stream = (self._schedule.seed, trainer.global_rank, self._number)
            rewritten = rewriter.rewrite(batch, teacher, stream=stream)
        self.stopwatch.mixed()
        self.mixing = False
        self.milliseconds = 1000 * (time.perf_counter() - start)
        mix = rewritten.mix
        assert mix is not None
        if not early:
            self._supervision.judge(mix, images, labels, chunk_size=rewriter.mixer.chunk_size)
            self._advice.judge_mixes(mix)
        if self._pictures is not None and self._pictures.wants(self._number, trainer):
            with trainer.profiler.profile("[SuperMix]picture"):
                shown = self._rewriter.engine.to_show(images, mix)
                self._pictures.draw(self._number, trainer, logged_step(trainer), *shown, self._supervision.teacher)
        return rewritten

    def _num_classes(self, batch: Any) -> int | None:
        rewriter = self._rewriter
        return num_classes_of(rewriter.mixer, self._supervision.teacher, rewriter.images_of(batch))
