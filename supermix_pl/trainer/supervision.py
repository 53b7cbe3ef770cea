"""Where the callback's teacher comes from, and whether it knows the images."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from supermix_pl.arguments import find_strays
from supermix_pl.mixing import MixedBatch, Mixer
from supermix_pl.mixing.natural import show_batch
from supermix_pl.mixing.targets import is_probabilities, widened
from supermix_pl.pictures.tensors import undo
from supermix_pl.teacher.copying import copy_of
from supermix_pl.teacher.frozen import FrozenTeacher, as_teacher
from supermix_pl.teacher.moving_average import (
    SHARDING,
    MovingAverage,
    check_gives_logits,
    check_keeps_parameters,
    check_whole,
    teacher_from_checkpoint,
)

Teacher = FrozenTeacher | nn.Module | Sequence[FrozenTeacher | nn.Module]
TeacherSource = Teacher | Callable[[], Teacher] | MovingAverage | str | Path | Sequence[str | Path]

_LABELS_TO_JUDGE = 256
_ROUNDING = 0.1  # of the spread of an image's logits; 16 bits leave a few hundredths


class Supervision:
    """The teacher of a run: given, built when fitting starts, an earlier run's, or an average of the module."""

    def __init__(self, source: TeacherSource | None) -> None:
        self.teacher: FrozenTeacher | None = None
        self.average: MovingAverage | None = None
        self._checkpoints: list[str] = []
        self._build: Callable[[], Teacher] | None = None
        self._complete = self._pixels_judged = False
        self._labels_seen, self._labels_hit = 0, 0
        several: list[Any] = list(source) if isinstance(source, Sequence) and not isinstance(source, str) else [source]
        if several and all(isinstance(each, FrozenTeacher | nn.Module) for each in several):
            self.teacher = as_teacher(several)
        elif isinstance(source, MovingAverage):
            self.average = source
        elif isinstance(source, str) and source == "ema":
            self.average = MovingAverage()
        elif several and all(isinstance(each, str | os.PathLike) for each in several):
            self._checkpoints = [_checked_path(each) for each in several]
        elif isinstance(source, Mixer):
            raise TypeError(f"expected the teacher first and the mixer second, got {source!r} as teacher")
        elif isinstance(source, Mapping):
            raise TypeError(
                f"expected teacher to be a classifier, got a {type(source).__name__} of {len(source)}: load weights "
                "into their network first, for instance with load_checkpoint(network, path)"
            )
        elif callable(source) and not isinstance(source, torch.export.ExportedProgram):
            self._build = source  # pyright: ignore[reportAttributeAccessIssue]
        elif source is not None:
            raise TypeError(
                "expected teacher to be a FrozenTeacher, an nn.Module or a list of these, a function that builds one, "
                'the path of a checkpoint of the module itself or a list of these, "ema" or a MovingAverage, got '
                f"{source!r}; of a program of torch.export give program.module()"
            )

    def __repr__(self) -> str:
        source = self._checkpoints or self._build or self.average
        if source is self._build and source is not None:
            return getattr(source, "__qualname__", repr(source))
        return repr(self.teacher if source is None else source)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out a teacher that is built when fitting starts."""
        built = self._build is not None or bool(self._checkpoints) or self.average is not None
        return vars(self) | {"_complete": False} | ({"teacher": None} if built else {})

    def setup(self, trainer: Any, module: Any) -> None:
        """Build what is built beforehand, and move it to the device; the module may have no layers yet."""
        strategy = type(trainer.strategy).__name__
        self._complete = False
        if self._build is not None and self.teacher is None:
            self.teacher = as_teacher(self._build())
        if self._checkpoints or self.average is not None:
            check_gives_logits(module)
        if self.average is not None:
            self.teacher = None
            self.average.forget()
            check_keeps_parameters(trainer.callbacks)
            check_whole(module, strategy)
        elif self.teacher is not None:
            _check_not_trained(self.teacher, module)
            self.teacher.to(trainer.strategy.root_device)
        elif strategy in SHARDING:  # the one moment in which it is whole
            self.complete(trainer, module)

    def complete(self, trainer: Any, module: Any) -> None:
        """Look at the module, once in a fit, when it has all its layers, and build a teacher of an earlier run."""
        if self._complete:
            return
        if self._checkpoints and self.teacher is None:
            self.teacher = as_teacher([teacher_from_checkpoint(module, path) for path in self._checkpoints])
            self.teacher.to(trainer.strategy.root_device)
        if self.average is None and self.teacher is not None:
            _check_not_trained(self.teacher, module)
        self._complete = True

    def stand_in(self, module: nn.Module) -> None:
        """Let the module as it stands teach while Lightning's finders try it out, before its average begins."""
        if self.average is not None and self.teacher is None:
            self.teacher = self.average.as_teacher(copy_of(module))

    def start(self, trainer: Any, module: nn.Module) -> None:
        """Begin an average with the module's weights, which are restored and on their device now."""
        if self.average is not None:
            self.teacher = self.average.start(module, _steps(trainer, module))

    def update(self, trainer: Any, module: nn.Module) -> None:
        """Take a training step into account."""
        if self.average is not None:
            self.average.update(module, _steps(trainer, module))

    def judge(self, mix: MixedBatch, images: Tensor, labels: Tensor | None, *, chunk_size: int | None = None) -> None:
        """Warn once of pixels and first labels of natural images that look unrelated to the teacher; label -1 is none.

        Only (b,) class indices and (b, n) probabilities, of which the likeliest class counts, tell something.
        """
        self._judge_pixels(images)
        if self._labels_seen >= _LABELS_TO_JUDGE or self.teacher is None or labels is None:
            return
        n = mix.soft_targets.shape[1]
        if labels.ndim == 2 and labels.shape[1] == n and bool(is_probabilities(labels).all()):
            labels = labels.argmax(dim=1)
        if labels.ndim != 1 or labels.is_floating_point():
            return
        labels = widened(labels)
        rows = (labels >= 0).nonzero().squeeze(1)[: _LABELS_TO_JUDGE - self._labels_seen].to(images.device)
        if len(rows) == 0:
            return
        known = mix.natural_logits
        logits = show_batch(self.teacher, images[rows], chunk_size).logits if known is None else known[rows]
        assert logits is not None
        if self._labels_seen == 0:
            self._judge_repeating(images, int(rows[0]), logits[0], chunk_size)
        self._labels_hit += int((logits.argmax(dim=1) == labels[rows]).sum())
        self._labels_seen += len(rows)
        expected = self._labels_seen / n
        if self._labels_seen >= _LABELS_TO_JUDGE and self._labels_hit <= expected + 3 * expected**0.5:
            likely = (
                "Has it another order of classes, or another normalisation (mean, std, input_mean and input_std of "
                "FrozenTeacher)?"
                if self.average is None
                else "It is the average of the trained module, which has learnt too little: give a later start_epoch."
            )
            rank_zero_warn(
                f"The teacher agrees with {self._labels_hit} of the first {self._labels_seen} labels, no more than "
                f"chance. {likely}"
            )

    def _judge_pixels(self, images: Tensor) -> None:
        """Warn where the statistics of the batches do not lead back to pixels in [0, 1]."""
        teacher = self.teacher
        if self._pixels_judged or teacher is None or (teacher.mean is None and teacher.input_mean is None):
            return
        self._pixels_judged = True
        pixels = undo(images, teacher.input_mean, teacher.input_std)
        if strays := find_strays(pixels):
            share, least, largest = strays
            given = "are not given" if teacher.input_mean is None else "are undone"
            rank_zero_warn(
                f"Where input_mean and input_std of FrozenTeacher {given}, the pixels of the first batch lie in "
                f"[{least:.2g}, {largest:.2g}], {share:.0%} of them outside [0, 1]: the "
                "teacher sees other images than it was trained on. Give what your batches are normalised with; where "
                "they are as the teacher expects them, leave out mean, std, input_mean and input_std."
            )

    def _judge_repeating(self, images: Tensor, row: int, logits: Tensor, chunk_size: int | None) -> None:
        """Warn where a pass of an image beside copies of itself gives it other logits than it had."""
        assert self.teacher is not None
        copies = torch.empty_like(images).copy_(images[row])  # as many as before: a compiled teacher knows this shape
        again = show_batch(self.teacher, copies, chunk_size).logits
        assert again is not None
        change = (again[0] - logits).abs().max() / (logits.max() - logits.min())
        if change > _ROUNDING:
            rank_zero_warn(
                f"The teacher's logits of an image changed by {change:.0%} of their spread in a second pass beside "
                "others: labels are not those of the image that is shown. Likely it drops units or normalises by the "
                "batch in eval mode too (F.dropout without training=self.training, track_running_stats=False)."
            )

    def state_dict(self) -> dict[str, Any]:
        """Return numbers, and the weights of an average."""
        state: dict[str, Any] = {"labels_seen": self._labels_seen, "labels_hit": self._labels_hit}
        return state if self.average is None else state | {"average": self.average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self._labels_seen, self._labels_hit = state["labels_seen"], state["labels_hit"]
        if self.average is not None and "average" in state:
            self.average.load_state_dict(state["average"])
        elif self.average is not None:
            rank_zero_warn(
                'The checkpoint is of a run without teacher="ema": the average begins with the module\'s weights now.'
            )


def _steps(trainer: Any, module: nn.Module) -> int:
    """Return a number that changes with each step of an optimizer; Lightning does not count all of manual ones."""
    if getattr(module, "automatic_optimization", True):
        return trainer.global_step
    return sum(weight._version for weight in module.parameters())


def _checked_path(source: str | os.PathLike[str]) -> str:
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"expected teacher={str(source)!r} to be the checkpoint of an earlier run of the same module, found no "
            'such file; "ema" makes a teacher of the module itself'
        )
    return str(path)


def _check_not_trained(teacher: FrozenTeacher, module: nn.Module) -> None:
    """Refuse a teacher that the training would change."""
    trained = {_memory(parameter): name for name, parameter in module.named_parameters()}
    shared = [trained[_memory(weight)] for weight in teacher.module.parameters() if _memory(weight) in trained]
    if shared:
        raise ValueError(
            f"expected a teacher that shares no parameter with the trained module, got {len(shared)} shared, "
            f"{shared[0]!r} among them; give copy.deepcopy(...) of it, or keep the teacher out of the module's "
            "attributes (callback.teacher gives access to it)"
        )


def _memory(weight: Tensor) -> tuple[str, int]:
    """Return what parameters have in common that hold the same values, as those made of one tensor's `data` do."""
    if is_lazy(weight) or hasattr(weight, "full_tensor") or weight.data_ptr() == 0:
        return "id", id(weight)
    return "memory", weight.data_ptr()
