"""Write metrics.json: accuracies, the time of the steps, what the mixing cost."""

import statistics
import time
from collections import Counter, deque
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor

from supermix_pl import FrozenTeacher, SuperMixCallback

_NATURAL, _MIXED = "seconds", "mixed_seconds"  # of steps, as checkpoints name them
_STEPS_TIMED = 10_000  # the last ones


class RunRecorder(pl.Callback):
    """Time the training steps and add up what the mixing did, and all that the teacher passed in training.

    A step's time runs from the end of the step before to its own end: fetching, mixing, forward, backward, update. The
    first step of an epoch is left out. Where some batches are mixed, only their steps count. A resumed run goes on
    counting where its checkpoint was. The teacher's passes are counted whoever asks for them.
    """

    def __init__(self, mixing: SuperMixCallback | None, teacher: FrozenTeacher | None = None) -> None:
        self._mixing = mixing
        self._teacher = teacher
        self._times: dict[str, deque[float]] = {name: deque(maxlen=_STEPS_TIMED) for name in (_NATURAL, _MIXED)}
        self._last: float | None = None
        self._start: float | None = None
        self._before = 0.0
        self._counts: Counter[str] = Counter()
        self._on_device: dict[str, Tensor | int] = {"solved": 0, "holds": 0}  # not asked for in every step

    def state_dict(self) -> dict[str, Any]:
        times = {name: list(seconds) for name, seconds in self._times.items()}
        return {"counts": dict(self._all_counts()), "fit_seconds": self.fit_seconds, **times}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._counts = Counter(state_dict["counts"])
        for name, seconds in self._times.items():
            seconds.extend(state_dict[name])
        self._before = state_dict["fit_seconds"]

    @property
    def fit_seconds(self) -> float:
        """Time since training began, with that of the runs that this one goes on from, up to their checkpoints."""
        return self._before + (0.0 if self._start is None else time.perf_counter() - self._start)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, and to count the images that the teacher passes."""
        self._start = time.perf_counter()
        if self._teacher is not None:
            prepare = self._teacher.prepare

            def counted(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c height width"]:
                traced_back = images.requires_grad and torch.is_grad_enabled()
                self._counts.update(passed=len(images), traced_back=len(images) * traced_back)
                return prepare(images)

            self._teacher.prepare = counted

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._before, self._start = self.fit_seconds, None
        if self._teacher is not None:
            vars(self._teacher).pop("prepare", None)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the step before, which was followed by validation."""
        self._last = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the time of the step and the counts of its mixes."""
        now = time.perf_counter()
        mix = None if self._mixing is None else self._mixing.mix
        if self._last is not None:
            self._times[_NATURAL if mix is None else _MIXED].append(now - self._last)
        self._last = now
        self._counts.update(samples=len(batch[0]) * trainer.world_size, steps=1)  # all ranks have batches of one size
        if mix is not None:
            self._counts.update(mixes=len(mix), forwards=mix.teacher_forwards, backwards=mix.teacher_backwards)
            self._on_device["solved"] = self._on_device["solved"] + mix.solved.sum()
            if mix.holds is not None:
                self._counts.update(looked_at=len(mix))
                self._on_device["holds"] = self._on_device["holds"] + mix.holds.sum()

    def _all_counts(self) -> Counter[str]:
        return self._counts + Counter({name: int(count) for name, count in self._on_device.items()})

    def metrics(self) -> dict[str, float]:
        """Return times of training (s) and step (median, ms), the images that the student saw on all ranks, the costs.

        Times, mixes and passes are those of this rank.
        """
        counts, seconds = self._all_counts(), list(self._times[_MIXED] or self._times[_NATURAL])
        metrics: dict[str, float] = {"fit_seconds": self.fit_seconds, "student_samples": counts["samples"]}
        if seconds:
            metrics["ms_per_step"] = 1000 * statistics.median(seconds)
        if mixes := counts["mixes"]:
            metrics["supermix/mixes"] = mixes
            metrics["supermix/solved_fraction"] = counts["solved"] / mixes
            metrics["supermix/teacher_forwards_per_mix"] = counts["forwards"] / mixes
            metrics["supermix/teacher_backwards_per_mix"] = counts["backwards"] / mixes
        if counts["looked_at"]:
            metrics["supermix/holds"] = counts["holds"] / counts["looked_at"]
        if self._teacher is not None and counts["steps"]:
            metrics["teacher/forwards_per_step"] = counts["passed"] / counts["steps"]
            metrics["teacher/backwards_per_step"] = counts["traced_back"] / counts["steps"]
        return metrics
