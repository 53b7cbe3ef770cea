"""SuperMixCallback: mixes on the fly in any Lightning project."""

import inspect
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from supermix_pl.arguments import check_at_least, check_flag, check_one_of
from supermix_pl.batch import Key
from supermix_pl.engine import BatchEngine, Engine, StreamEngine
from supermix_pl.mixing import MixedBatch, Mixer, SuperMix, as_mixer
from supermix_pl.mixing.targets import TargetFormat, Targets
from supermix_pl.mixing.views import Transform
from supermix_pl.teacher.frozen import FrozenTeacher
from supermix_pl.trainer.advice import Advice
from supermix_pl.trainer.base import LightningCallback
from supermix_pl.trainer.distilling import DistillationSettings
from supermix_pl.trainer.fit import NOTHING, Fit, Kept
from supermix_pl.trainer.interception import check_step_takes_batches
from supermix_pl.trainer.log import IN_BAR, mixing_metrics
from supermix_pl.trainer.resuming import count_next_epoch, warn_of_lost_place
from supermix_pl.trainer.rewriting import BatchRewriter, Rewritten, natural_share
from supermix_pl.trainer.schedule import Schedule
from supermix_pl.trainer.side_files import load_beside
from supermix_pl.trainer.student_classes import class_note
from supermix_pl.trainer.supervision import Supervision, TeacherSource

_ENGINES: dict[str, Callable[[], Engine]] = {"stream": StreamEngine, "batch": BatchEngine}
_OF_LIGHTNING = ("log", "log_dict")  # methods of the module, put here for a fit
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
            all rows for which the teacher's logits are finite, at `distillation_temperature`. The rest is the module's
            own loss, which it logs. Above 0 the callback finds the module's logits on their way, and the teacher labels
            the natural images too. The module must optimize automatically. See `supermix_pl.losses.distillation_loss`.
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
        check_one_of("log", log, (True, False, "prog_bar"))
        if log_images_every is not None:
            check_at_least("log_images_every", log_images_every, 1)
        check_flag("save_state", save_state)
        mixer = SuperMix.fast() if mixer is None else as_mixer(mixer)  # no default: a config of another keeps its own
        if isinstance(engine, str):
            check_one_of("engine", engine, tuple(_ENGINES))
            engine = _ENGINES[engine]()
        elif not isinstance(engine, Engine):
            raise TypeError(f'expected engine to be "batch", "stream" or an Engine, got {engine!r}')
        engine.check(mixer)
        schedule = Schedule(
            probability=probability,
            every_n_batches=every_n_batches,
            start_epoch=start_epoch,
            before_start=before_start,
            stop_epoch=stop_epoch,
            seed=seed,
        )
        distillation = DistillationSettings(
            weight=distillation_weight, temperature=distillation_temperature, part=logits_of
        )
        check_flag("label_natural", label_natural)
        rewriter = BatchRewriter(
            mixer=mixer,
            engine=engine,
            mode=mode,
            mix_ratio=mix_ratio,
            targets=targets,
            input_key=input_key,
            target_key=target_key,
            mixed_transform=engine.default_transform if mixed_transform is None else mixed_transform,
            natural_share=natural_share(natural_targets),
            target_temperature=target_temperature,
            label_natural=label_natural or distillation_weight > 0,
            every_batch=schedule.every_batch,
        )
        if before_start == "mixup" and targets.startswith("teacher"):
            raise ValueError(
                f'expected targets="soft" or "pairs" for before_start="mixup", got targets="{targets}": before '
                "start_epoch the teacher labels nothing"
            )
        needs = {
            "target_key=None, which labels all images": target_key is None,
            f'{type(mixer).__name__} and targets="{targets}"': mixer.needs_teacher or targets.startswith("teacher"),
            "label_natural=True or a distillation_weight": rewriter.label_natural,
        }
        if teacher is None and any(needs.values()):
            needing = next(name for name in needs if needs[name])
            raise ValueError(
                f"expected a teacher for {needing}, got None; give one, or take a mixer that needs none, such as "
                'MixUp(num_classes=10), with targets="soft" or "pairs"'
            )
        if teacher is None and engine.needs_teacher:
            raise ValueError(
                f"expected a teacher for {engine!r}, whose sources have no labels, got None; give one, or leave the "
                "sources out: images of earlier batches have their labels"
            )
        self.seed = seed
        self.log_metrics = log
        self._rewriter, self._engine = rewriter, engine
        self._supervision = Supervision(teacher)
        self._save_state = save_state
        self._begin_fit = partial(
            Fit,
            rewriter=rewriter,
            schedule=schedule,
            supervision=self._supervision,
            advice=Advice(mixer, engine, start_epoch),
            distillation=distillation,
            log=bool(log),
            log_images_every=log_images_every,
            save_state=save_state,
        )
        self._fit: Fit | None = None
        self._kept: weakref.WeakKeyDictionary[Any, Kept] | None = None  # lives as long as each trainer
        self._takes_up_state = True

    def __repr__(self) -> str:
        defaults = inspect.signature(SuperMixCallback.__init__).parameters
        given = [f"{name}={value!r}" for name, value in self._given.items() if value != defaults[name].default]
        parts = [repr(self._supervision), repr(self.mixer), *given, f"engine={self._engine!r}"]
        return f"{type(self).__name__}({', '.join(parts)})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to a run, so that a module that holds this can be copied and sent while it trains."""
        state = vars(self) | {"_fit": None, "_kept": None, "_takes_up_state": True}
        return {name: value for name, value in state.items() if name not in _OF_LIGHTNING}

    @property
    def teacher(self) -> FrozenTeacher | None:
        """The teacher; None until fitting starts, if a function, a path or "ema" was given."""
        return self._supervision.teacher

    @property
    def mixer(self) -> Mixer:
        """The mixer that makes the mixes."""
        return self._rewriter.mixer

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
        return NOTHING if self._fit is None else self._fit.current

    @property
    def _running(self) -> Fit:
        """The fit, in hooks that only training calls."""
        assert self._fit is not None
        return self._fit

    def _fit_of(self, trainer: Any) -> Fit | None:
        """Return the fit that goes on, if it is this trainer's: another one may validate or test in the midst of it."""
        return self._fit if self._fit is not None and self._fit.trainer is trainer else None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Build the teacher and start catching batches."""
        if stage != "fit":
            return
        if sum(isinstance(callback, SuperMixCallback) for callback in trainer.callbacks) > 1:
            raise ValueError(
                "expected one SuperMixCallback in the trainer, got several: each would mix the mixes of the other; "
                "keep one"
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
        self._supervision.setup(trainer, pl_module)
        self._fit = self._begin_fit(trainer, pl_module, self._end)
        if kept is not None and kept.module() is pl_module:
            self._fit.trained = True
            self._take_up(kept.state)
            self._engine.load_tensors(kept.tensors)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Look at the module when it is complete."""
        self._supervision.complete(trainer, pl_module)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin a moving average; warn where a run resumed in an epoch cannot repeat the uninterrupted one."""
        self._running.start()
        count_next_epoch(trainer.fit_loop)
        warn_of_lost_place(trainer.fit_loop)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Log what the mixing of this batch did."""
        fit, mix = self._running, self.mix
        fit.stopwatch.trained()
        if not self.log_metrics or mix is None or trainer.barebones:
            return
        average = self._supervision.average
        average_ms = None if average is None else average.milliseconds
        values = mixing_metrics(mix, self._engine, fit.stopwatch, fit.milliseconds, average_ms)
        in_bar = {name: values.pop(name) for name in IN_BAR if name in values and self.log_metrics == "prog_bar"}
        pl_module.log_dict(in_bar, prog_bar=True, batch_size=len(mix))
        pl_module.log_dict(values, batch_size=len(mix))

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Hide the training batch from a validation within its step, and let go of one whose step is over."""
        if (fit := self._fit_of(trainer)) is not None:
            fit.hide()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Go on with the training."""
        if (fit := self._fit_of(trainer)) is not None:
            fit.show()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Let go of the last batch."""
        self._running.let_go()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Time the training step, and let a moving average follow it."""
        self._running.stopwatch.trained()
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
        mix = self.mix
        if mix is not None and (note := class_note(exception, pl_module, mix.soft_targets.shape[1])) is not None:
            exception.add_note(note)

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers, and the weights of a moving average; they load with `weights_only=True`."""
        return {"seed": self.seed, "engine": self._engine.state_dict()} | self._supervision.state_dict()

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Take up the state only of a run that goes on."""
        self._takes_up_state = trainer.state.fn == "fit"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of the run that is resumed, and what was saved beside its checkpoint."""
        if not self._takes_up_state:
            return
        if state_dict["seed"] != self.seed:
            rank_zero_warn(
                f"The checkpoint was mixed with seed={state_dict['seed']}, this run has seed={self.seed}: it will not "
                "repeat the run that it resumes."
            )
        self._take_up(state_dict)
        trainer = None if self._fit is None else self._fit.trainer
        if trainer is None or trainer.ckpt_path is None or self._engine.steps == 0:
            return
        if self._save_state:
            load_beside(trainer.ckpt_path, self._engine, trainer.global_rank, trainer.world_size)
        else:
            rank_zero_info("Stream engine: its store was not saved (save_state=False), so it fills anew.")

    def _take_up(self, state: dict[str, Any]) -> None:
        self._supervision.load_state_dict(state)
        self._engine.load_state_dict(state["engine"])

    def _end(self) -> None:
        """End the fit: let go of it, and keep for the trainer what its next fit goes on with."""
        for name in _OF_LIGHTNING:
            self.__dict__.pop(name, None)
        fit, self._fit = self._fit, None
        if fit is None:
            return
        fit.end()
        if fit.trained and not fit.mixing:
            tensors = {name: value.cpu() for name, value in self._engine.tensors().items()}
            self._kept = weakref.WeakKeyDictionary() if self._kept is None else self._kept
            self._kept[fit.trainer] = Kept(weakref.ref(fit.module), self.state_dict(), tensors)
        self._engine.end()
