"""SuperMixCallback: mixes on the fly in any Lightning project."""

import inspect
import math
import time
import warnings
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from supermix_pl.arguments import (
    check_at_least,
    check_flag,
    check_one_of,
    check_positive,
    check_probability,
    check_transform,
)
from supermix_pl.batch import Key, check_key, is_exhausted
from supermix_pl.engine import BatchEngine, Engine, StreamEngine
from supermix_pl.mixing import FunctionMixer, MixedBatch, Mixer, MixUp, SuperMix, takes_seed
from supermix_pl.mixing.targets import TargetFormat, Targets
from supermix_pl.mixing.views import Transform
from supermix_pl.teacher.frozen import FrozenTeacher
from supermix_pl.trainer.advice import Advice
from supermix_pl.trainer.base import LightningCallback
from supermix_pl.trainer.distilling import Distillation
from supermix_pl.trainer.fit import Fit, Kept
from supermix_pl.trainer.interception import check_step_takes_batches, has_other_loaders
from supermix_pl.trainer.log import IN_BAR, logged_step
from supermix_pl.trainer.resuming import count_next_epoch, warn_of_lost_place
from supermix_pl.trainer.rewriting import BatchRewriter, Rewritten, num_classes_of
from supermix_pl.trainer.side_files import read, side_path
from supermix_pl.trainer.student_classes import class_note
from supermix_pl.trainer.supervision import Supervision, TeacherSource

_ENGINES: dict[str, Callable[[], Engine]] = {"stream": StreamEngine, "batch": BatchEngine}
_OF_LIGHTNING = ("log", "log_dict")  # methods of the module, put here for a fit
_NOTHING = Rewritten(None, None)
_APART = ("self", "__class__", "teacher", "mixer", "engine")  # no settings that `repr` names where they are given


class SuperMixCallback(LightningCallback):
    """Extend or replace training batches by mixes, for any module and any layout of the batch.

    Give it to the trainer: `Trainer(callbacks=[SuperMixCallback(teacher)])`. Each training batch then reaches
    `training_step` longer: natural images first, then `mix_ratio` mixes for each. Other batches stay as they are.

    Args:
        teacher: A classifier, or a list of several, which are averaged in probability. Or a function that builds one or
            several; every rank calls it once, when fitting starts. Or the path of a checkpoint of an earlier run of the
            trained module, whose `forward` gives logits, or a list of these. Or "ema" or a `MovingAverage`, for an
            exponential moving average of the module itself. Or None, for a mixer that needs none. It must share no
            parameter with the trained module.
        mixer: Makes the mixes: a `Mixer`, or a function with the arguments of one. None is `SuperMix.fast()`.
        mode: "extend" puts the mixes behind the natural images; "replace" puts them in their place.
        targets: The labels of the mixes. "teacher": (b,) integers, the teacher's class of the mix; the module need not
            change. "soft": (b, n), the weights of the sources on their classes (Eq. 2). "teacher_soft": (b, n), the
            teacher's probabilities. "pairs": a tuple of (b, k) classes and (b, k) weights. Natural labels get the same
            format, in batches that are not mixed as well.
        natural_targets: The labels of natural images. "given": those of the batch. "teacher": the teacher's
            probabilities. A number in [0, 1]: the teacher's share in a blend of both. With the teacher's, targets must
            be "teacher_soft"; a module with plain cross-entropy then distils without a changed line. If the teacher is
            a moving average, epochs before `start_epoch` keep the given labels.
        target_temperature: Softens the teacher's probabilities in the labels, > 0. Needs targets="teacher_soft". It is
            not Hinton's loss; for that see `supermix_pl.losses.distillation_loss`.
        label_natural: Whether the teacher labels the natural images too, for `teacher_logits`. It costs one forward
            pass for each natural image.
        distillation_weight: Share of Hinton's distillation loss in the loss that `training_step` returns, in [0, 1]: of
            all rows, at `distillation_temperature`. The rest is the module's own loss, which it logs. Above 0 the
            callback finds the module's logits on their way, and the teacher labels the natural images too. The module
            must optimize automatically. See `supermix_pl.losses.distillation_loss`.
        distillation_temperature: T of that loss, > 0. Needs a distillation_weight > 0, as `logits_of` does.
        logits_of: Name of the part of the module that gives these logits, such as "network". None finds it, if the
            module itself or one of its direct parts gives them.
        input_key: Where the images are in the batch: a position, a name, a dotted path or a (get, set) pair.
        target_key: Where the labels are, likewise. An image without a label, which has -1 there, gets the teacher's:
            its class, or with targets="teacher_soft" its probabilities. None for batches without labels: the labels of
            all rows are in `teacher_labels` then, and a batch may be a tensor, the images.
        mixed_transform: The view under which the student sees the mixes (b, c, h, w). The teacher labels exactly what
            is shown. None is the engine's own view: `RandomCropFlip()` for the stream, none for the batch engine. The
            paper's is `RandomCropFlip(padding=2)`. Its random numbers come from `seed`; the global generators of
            Python, NumPy and torch are seeded for it and put back. One that the view holds itself is not.
        probability: Share of batches that are mixed, in [0, 1]. All ranks mix the same batches.
        every_n_batches: Mixes every n-th batch only, n >= 1.
        start_epoch: The first epoch, counted from 0, in which the teacher supervises mixes.
        before_start: What happens in the epochs before it: "nothing", or "mixup", which is MixUp of as many sources.
            Its labels are the weights, so targets must be "soft" or "pairs".
        mix_ratio: Mixes for each natural image that they extend, > 0. Of a batch it gives the nearest integer, halves
            up, and at least one. With mode="replace" it must be 1.
        stop_epoch: From this epoch on, counted from 0 and after `start_epoch`, batches stay as they are. So a training
            can end on natural images. None mixes to the end.
        engine: When sets are solved. "stream" spreads the work over steps at a constant cost, and mixes images of
            earlier batches. "batch" solves the sets of each batch to the end, and mixes the images of that batch. Or an
            `Engine`, such as `StreamEngine(budget=0.25)`.
        seed: Random seed, >= 0. Each (rank, batch) has its own generator, so a resumed run repeats the uninterrupted
            one.
        log: Whether to log metrics; "prog_bar" also shows holds, solved_fraction and ms in the progress bar.

            - supermix/holds: share of the mixes that hold, see `MixedBatch`
            - supermix/solved_fraction: share of the sets that are solved
            - supermix/non_finite_fraction: share of the sets for which the teacher gave NaN or infinity
            - supermix/left_out: images that are no source, because the teacher gave NaN or infinity for them and they
              have no label; only where there are some
            - supermix/steps: mean number of steps that the masks have had
            - supermix/teacher_forwards: images that the teacher passed for the mixes
            - supermix/label_forwards: those of them that only labelled
            - supermix/distillation_loss: with distillation_weight
            - supermix/ms: time of the mixing in milliseconds
            - supermix/time_share: its share of the step's time
            - supermix/average_ms: time of the last update of a moving average
            - and the engine's own metrics
        log_images_every: Draws some sets (sources, masks and mix, with classes and weights) of the first mixed batch,
            and again after every n batches, n >= 1. Pictures go to TensorBoard, to Weights & Biases or to the run's
            folder. None draws none.
        save_state: Whether to save what the engine holds beside every checkpoint, one file a rank. A resumed run then
            repeats the uninterrupted one. Without it the store of a stream fills anew.

    Attributes:
        mix: The `MixedBatch` of the current training batch. None if it was not mixed, and outside the training step.
        teacher_logits: With `label_natural`, the teacher's logits (rows, n) of the current training batch: one row for
            each row that `training_step` gets, mixed or not. None otherwise, and outside the training step.
        teacher_features: Likewise the output of a part of the teacher, which `FrozenTeacher(features=...)` names.
        teacher_labels: With target_key=None, the labels of these rows in the format of `targets`. None otherwise, and
            outside the training step.

    Raises:
        TypeError: If mixer, engine, teacher, keys or mixed_transform are of the wrong kind.
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        teacher: TeacherSource | None = None,
        mixer: Mixer | Callable[..., MixedBatch] | None = None,
        *,
        mode: Literal["extend", "replace"] = "extend",
        targets: TargetFormat = "teacher",
        natural_targets: Literal["given", "teacher"] | float = "given",
        target_temperature: float = 1.0,
        label_natural: bool = False,
        distillation_weight: float = 0.0,
        distillation_temperature: float = 4.0,
        logits_of: str | None = None,
        input_key: Key = 0,
        target_key: Key | None = 1,
        mixed_transform: Transform | None = None,
        probability: float = 1.0,
        every_n_batches: int = 1,
        start_epoch: int = 0,
        before_start: Literal["nothing", "mixup"] = "nothing",
        stop_epoch: int | None = None,
        mix_ratio: float = 1.0,
        engine: Literal["stream", "batch"] | Engine = "stream",
        seed: int = 0,
        log: bool | Literal["prog_bar"] = True,
        log_images_every: int | None = None,
        save_state: bool = False,
    ) -> None:
        self._given = {name: value for name, value in locals().items() if name not in _APART}
        super().__init__()
        check_one_of("mode", mode, ("extend", "replace"))
        check_one_of("targets", targets, get_args(TargetFormat))
        check_one_of("log", log, (True, False, "prog_bar"))
        check_one_of("before_start", before_start, ("nothing", "mixup"))
        check_at_least("every_n_batches", every_n_batches, 1)
        check_at_least("start_epoch", start_epoch, 0)
        if stop_epoch is not None:
            check_at_least("stop_epoch", stop_epoch, start_epoch + 1)
        check_at_least("seed", seed, 0)
        if log_images_every is not None:
            check_at_least("log_images_every", log_images_every, 1)
        check_probability("probability", probability)
        check_positive("mix_ratio", mix_ratio)
        if mode == "replace" and mix_ratio != 1:
            raise ValueError(
                f'expected mix_ratio=1 with mode="replace", where mixes take the place of natural images, got '
                f'{mix_ratio:g}; choose mode="extend"'
            )
        check_flag("save_state", save_state)
        check_key("input_key", input_key)
        if target_key is not None:
            check_key("target_key", target_key)
        elif teacher is None:
            raise ValueError("expected a teacher for target_key=None, which labels all images, got None")
        if input_key == target_key:
            raise ValueError(f"expected input_key and target_key to differ, got {input_key!r} for both")
        if mixed_transform is not None:
            check_transform("mixed_transform", mixed_transform)
        if mixer is None:  # no mixer as default: a config that names another one would keep its settings
            mixer = SuperMix.fast()
        if not isinstance(mixer, Mixer) and takes_seed(mixer):
            mixer = FunctionMixer(mixer)
        if not isinstance(mixer, Mixer):
            raise TypeError(f"expected mixer to be a SuperMix, MixUp, CutMix or other Mixer, got {mixer!r}")
        if isinstance(engine, str):
            check_one_of("engine", engine, tuple(_ENGINES))
            engine = _ENGINES[engine]()
        elif not isinstance(engine, Engine):
            raise TypeError(f'expected engine to be "batch", "stream" or an Engine, got {engine!r}')
        engine.check(mixer)
        if teacher is None and (mixer.needs_teacher or targets.startswith("teacher")):
            raise ValueError(
                f'expected a teacher for {type(mixer).__name__} and targets="{targets}", got None; '
                "only MixUp and CutMix "
                'with targets="soft" or "pairs" can do without'
            )
        if before_start == "mixup" and targets.startswith("teacher"):
            raise ValueError(
                f'expected targets="soft" or "pairs" for before_start="mixup", got targets="{targets}": before '
                "start_epoch the teacher labels nothing"
            )
        if before_start == "mixup" and start_epoch == 0:
            raise ValueError(
                'expected start_epoch >= 1 for before_start="mixup", got 0: there is no epoch before it; give the '
                "first epoch that the teacher supervises"
            )
        check_positive("target_temperature", target_temperature)
        check_flag("label_natural", label_natural)
        share = natural_share(natural_targets)
        if targets != "teacher_soft" and (share or target_temperature != 1):
            raise ValueError(
                f'expected targets="teacher_soft" for natural_targets={natural_targets!r} and target_temperature='
                f'{target_temperature:g}, got targets="{targets}", which has no room for the teacher\'s probabilities'
            )
        check_probability("distillation_weight", distillation_weight)
        check_positive("distillation_temperature", distillation_temperature)
        for name in ("distillation_temperature", "logits_of"):
            if not distillation_weight and name in self._chosen():
                raise ValueError(
                    f"expected distillation_weight > 0 with {name}={self._given[name]!r}, which does nothing without "
                    f"it, got {distillation_weight:g}; give a weight, such as 0.9, or leave {name} out"
                )
        if teacher is None and (label_natural or distillation_weight):
            raise ValueError("expected a teacher for label_natural=True or a distillation_weight, got None")
        self._supervision = Supervision(teacher)
        self.seed = seed
        self.log_metrics = log
        self._rewriter = BatchRewriter(
            mixer=mixer,
            engine=engine,
            mode=mode,
            mix_ratio=mix_ratio,
            targets=targets,
            input_key=input_key,
            target_key=target_key,
            mixed_transform=engine.default_transform if mixed_transform is None else mixed_transform,
            natural_share=share,
            target_temperature=target_temperature,
            label_natural=label_natural or distillation_weight > 0,
            every_batch=probability == 1 and every_n_batches == 1 and start_epoch == 0 and stop_epoch is None,
        )
        self._early: BatchRewriter | None = None
        self._mixes_early = before_start == "mixup"
        self._engine = engine
        self._probability = probability
        self._every_n_batches = every_n_batches
        self._start_epoch = start_epoch
        self._stop_epoch = math.inf if stop_epoch is None else stop_epoch
        self._log_images_every = log_images_every
        self._save_state = save_state
        self._distils = {"weight": distillation_weight, "temperature": distillation_temperature, "part": logits_of}
        self._fit: Fit | None = None
        self._held, self._number = _NOTHING, 0
        self._kept: weakref.WeakKeyDictionary[Any, Kept] | None = None  # lives as long as each trainer
        self._takes_up_state = True
        self._milliseconds = 0.0
        self._advice = Advice(mixer, engine, start_epoch)

    def __repr__(self) -> str:
        given = [f"{name}={value!r}" for name, value in self._chosen().items()]
        parts = [repr(self._supervision), repr(self.mixer), *given, f"engine={self._engine!r}"]
        return f"{type(self).__name__}({', '.join(parts)})"

    def _chosen(self) -> dict[str, Any]:
        """Return the settings that were given and are not the defaults."""
        defaults = inspect.signature(SuperMixCallback.__init__).parameters
        return {name: value for name, value in self._given.items() if value != defaults[name].default}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to a run, so that a module that holds this can be copied and sent while it trains."""
        state = vars(self) | {"_fit": None, "_kept": None, "_held": _NOTHING, "_takes_up_state": True}
        return {name: value for name, value in state.items() if name not in _OF_LIGHTNING}

    @property
    def teacher(self) -> FrozenTeacher | None:
        """The teacher; None until fitting starts, if a function, a path or "ema" was given."""
        return self._supervision.teacher

    @property
    def mix(self) -> MixedBatch | None:
        """The mixes of the current training batch; None if it was not mixed, and outside the training step."""
        return self._current.mix

    @property
    def teacher_logits(self) -> Tensor | None:
        """With `label_natural`, the teacher's logits, one row for each row that `training_step` gets."""
        return self._current.teacher_logits

    @property
    def teacher_features(self) -> Tensor | None:
        """Likewise the output of the part of the teacher that `FrozenTeacher(features=...)` names."""
        return self._current.teacher_features

    @property
    def teacher_labels(self) -> Targets | None:
        """With target_key=None, the labels of these rows."""
        return self._current.labels

    @property
    def _current(self) -> Rewritten:
        """What belongs to the training step that the trainer is in; nothing outside of one."""
        return self._held if self._fit is None or self._fit.is_in_step(self._number) else _NOTHING

    @property
    def mixer(self) -> Mixer:
        """The mixer that makes the mixes."""
        return self._rewriter.mixer

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Build the teacher and start catching batches."""
        if stage != "fit":
            return
        if sum(isinstance(callback, SuperMixCallback) for callback in trainer.callbacks) > 1:
            raise ValueError(
                "expected one SuperMixCallback in the trainer, got several: each would mix the "
                "mixes of the other; keep one"
            )
        check_step_takes_batches(pl_module)
        if self._fit is not None and self._fit.trainer is not trainer:
            raise ValueError(
                "expected a SuperMixCallback in one fit at a time, got another fit that begins within it; give the "
                "inner trainer a callback of its own, for instance copy.deepcopy(callback)"
            )
        self._end()
        self._takes_up_state = True
        kept = None if self._kept is None else self._kept.pop(trainer, None)
        if kept is not None and kept.module() is not pl_module:
            kept = None
        self._supervision.setup(trainer, pl_module, None if kept is None else kept.averaged)
        self._fit = Fit(
            trainer,
            pl_module,
            self._engine,
            lambda batch: self._rewrite(trainer, batch),
            self._end,
            pictures_every=self._log_images_every,
            save_state=self._save_state,
            distillation=self._distillation(trainer, pl_module),
        )
        if kept is not None:
            self._fit.trained = True
            self._engine.load_state_dict(kept.engine)
            self._engine.load_tensors(kept.tensors)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Look at the module when it is complete."""
        self._supervision.complete(trainer, pl_module)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin a moving average; warn where a run resumed in an epoch cannot repeat the uninterrupted one."""
        assert self._fit is not None
        self._fit.trained = True
        self._let_go()  # of the last batch of a finder's trial run
        self._supervision.start(trainer, pl_module)
        if self._fit.distillation is not None:
            self._fit.distillation.check(pl_module)
        if self.teacher is not None and self.teacher.features and not self._rewriter.label_natural:
            raise ValueError(
                f"expected label_natural=True for a teacher with features={self.teacher.features!r}, which come with "
                "teacher_logits, got False; turn it on, or leave the features out"
            )
        self._advice.judge_settings(trainer)
        count_next_epoch(trainer.fit_loop)
        warn_of_lost_place(trainer.fit_loop)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Log what the mixing of this batch did."""
        fit, mix = self._fit, self.mix
        if fit is None:
            return
        fit.stopwatch.trained()
        if not self.log_metrics or mix is None or trainer.barebones:
            return
        average = self._supervision.average
        values = fit.log.values(mix, self._milliseconds, None if average is None else average.milliseconds)
        in_bar = {name: values.pop(name) for name in IN_BAR if name in values and self.log_metrics == "prog_bar"}
        pl_module.log_dict(in_bar, prog_bar=True, batch_size=len(mix))
        pl_module.log_dict(values, batch_size=len(mix))

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Hide the training batch from a validation within its step, and let go of one whose step is over."""
        if (fit := self._fit_of(trainer)) is not None:
            if not fit.is_in_step(self._number):
                self._let_go()
            fit.validating = True

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Go on with the training."""
        if (fit := self._fit_of(trainer)) is not None:
            fit.validating = False

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Let go of the last batch."""
        self._let_go()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Time the training step, and let a moving average follow it."""
        if self._fit is not None:
            self._fit.stopwatch.trained()
        self._supervision.update(trainer, pl_module)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Let go of what belongs to the run."""
        if self._fit_of(trainer) is not None:
            self._end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Stop catching batches: Lightning calls no teardown after an exception; a checkpoint may be saved yet."""
        if (fit := self._fit_of(trainer)) is None:
            return
        fit.interception.remove()
        n = None if self.mix is None or self.teacher is None else self.teacher.num_classes
        note = None if n is None else class_note(exception, pl_module, n)
        if note is not None:
            exception.add_note(note)

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers, and the weights of a moving average; they load with `weights_only=True`."""
        return {"seed": self.seed, "engine": self._engine.state_dict()} | self._supervision.state_dict()

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Take up the state only of a run that goes on, and remember where its checkpoint is."""
        self._takes_up_state = trainer.state.fn == "fit"
        if self._takes_up_state and (fit := self._fit_of(trainer)) is not None:
            fit.checkpoint = trainer.ckpt_path

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of the run that is resumed."""
        if not self._takes_up_state:
            return
        if state_dict["seed"] != self.seed:
            rank_zero_warn(
                f"The checkpoint was mixed with seed={state_dict['seed']}, this run has seed={self.seed}: it will not "
                "repeat the run that it resumes."
            )
        self._supervision.load_state_dict(state_dict)
        self._engine.load_state_dict(state_dict["engine"])
        self._load_tensors()

    def _load_tensors(self) -> None:
        """Take up what was saved beside the checkpoint, and say what a run without it does."""
        fit = self._fit
        if fit is None or fit.checkpoint is None or self._engine.steps == 0:
            return
        trainer, checkpoint, fit.checkpoint = fit.trainer, fit.checkpoint, None
        path = side_path(checkpoint, self._engine.steps, trainer.global_rank) if self._save_state else None
        tensors = None if path is None else read(path)
        if tensors is not None:
            self._engine.load_tensors(tensors)
        elif path is None:
            rank_zero_info("Stream engine: its store was not saved (save_state=False), so it fills anew.")
        else:
            warnings.warn(  # on every rank: each has a file of its own
                f"Expected {path}, which save_state=True writes beside the checkpoints of a fit, and it is not there: "
                "the store fills anew, and the run will differ from an uninterrupted one.",
                stacklevel=2,
            )

    def _distillation(self, trainer: Any, pl_module: Any) -> Distillation | None:
        if not self._distils["weight"]:
            return None
        logs = bool(self.log_metrics)
        return Distillation(trainer, pl_module, lambda: self.teacher_logits, log=logs, **self._distils)

    def _fit_of(self, trainer: Any) -> Fit | None:
        """Return the fit that goes on, if it is this trainer's: another one may validate or test in the midst of it."""
        return self._fit if self._fit is not None and self._fit.trainer is trainer else None

    def _let_go(self) -> None:
        self._held = _NOTHING

    def _hold(self, rewritten: Rewritten) -> Any:
        """Keep what comes beside a batch for its training step, and return the batch."""
        self._held = replace(rewritten, batch=None)
        return rewritten.batch

    def _rewrite(self, trainer: Any, batch: Any) -> Any:
        fit = self._fit
        assert fit is not None
        if fit.validating:
            return batch
        self._let_go()
        self._supervision.complete(trainer, fit.module)
        self._number = number = fit.batch_number
        early = trainer.current_epoch < self._start_epoch
        self._supervision.stand_in(fit.module)
        if has_other_loaders(trainer) and is_exhausted(batch, self._rewriter.input_key):
            return batch
        late = trainer.current_epoch >= self._stop_epoch
        if late or not self._wants(number) or (early and not self._mixes_early):
            return self._leave(batch, early)
        images, labels = self._rewriter.images_of(batch), self._rewriter.labels_of(batch)
        start = time.perf_counter()
        fit.mixing = True
        fit.stopwatch.start()
        with trainer.profiler.profile("[SuperMix]mix"):
            rewriter, teacher = (self._rewriter, self.teacher) if not early else self._blind(batch)
            rewritten = rewriter.rewrite(batch, teacher, stream=(self.seed, trainer.global_rank, number))
        fit.stopwatch.mixed()
        fit.mixing = False
        self._milliseconds = 1000 * (time.perf_counter() - start)
        batch, mix = self._hold(rewritten), rewritten.mix
        assert mix is not None
        if not early:
            self._supervision.judge(mix, images, labels, chunk_size=self.mixer.chunk_size)
            self._advice.judge_mixes(mix)
        if fit.pictures is not None and fit.pictures.wants(number, trainer):
            with trainer.profiler.profile("[SuperMix]picture"):
                shown = self._engine.to_show(images, mix)
                fit.pictures.draw(number, trainer, logged_step(trainer), *shown, self.teacher)
        return batch

    def _leave(self, batch: Any, early: bool) -> Any:
        """Leave a batch unmixed, in the label format of the others."""
        teacher = None if early and self._supervision.average is not None else self.teacher
        rewriter = self._rewriter
        n = None
        if rewriter.targets != "teacher":
            n = num_classes_of(self.mixer, self.teacher, rewriter.images_of(batch))
        return self._hold(rewriter.leave_natural(batch, teacher, n))

    def _wants(self, number: int) -> bool:
        """Decide from what all ranks share, so that their batches keep equal sizes."""
        if number % self._every_n_batches:
            return False
        return self._probability == 1 or np.random.default_rng([self.seed, number]).random() < self._probability

    def _blind(self, batch: Any) -> tuple[BatchRewriter, FrozenTeacher | None]:
        """Return what mixes before `start_epoch`, and a given teacher where it is to label rows."""
        rewriter, given = self._rewriter, self._supervision.average is None
        labels = rewriter.label_natural and given
        if self._early is None:
            n = num_classes_of(self.mixer, self.teacher, rewriter.images_of(batch))
            mixer = MixUp(k=self.mixer.k, num_classes=n)
            self._early = replace(rewriter, mixer=mixer, engine=BatchEngine(), label_natural=labels, natural_share=0.0)
        return self._early, self.teacher if labels or (given and rewriter.lacks_labels(batch)) else None

    def _end(self) -> None:
        """End the fit: let go of it, and keep for the trainer what its next fit goes on with."""
        self._let_go()
        for name in _OF_LIGHTNING:
            if name in vars(self):
                delattr(self, name)
        fit, self._fit = self._fit, None
        if fit is None:
            return
        fit.end()
        if fit.trained and not fit.mixing:
            average = self._supervision.average
            averaged = None if average is None else average.averaged
            tensors = {name: value.cpu() for name, value in self._engine.tensors().items()}
            self._kept = weakref.WeakKeyDictionary() if self._kept is None else self._kept
            self._kept[fit.trainer] = Kept(weakref.ref(fit.module), self._engine.state_dict(), tensors, averaged)
        self._engine.end()


def natural_share(natural_targets: object) -> float:
    """Return the teacher's share in the labels of natural images, or refuse what is none."""
    if isinstance(natural_targets, str):
        check_one_of("natural_targets", natural_targets, ("given", "teacher"))
        return float(natural_targets == "teacher")
    check_probability("natural_targets", natural_targets)
    assert isinstance(natural_targets, int | float)
    return float(natural_targets)
