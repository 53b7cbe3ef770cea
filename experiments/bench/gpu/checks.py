"""Whether the device gives the mixes that it should: against the CPU, compiled, in bf16, and in a sharded training."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from supermix_pl import CutMix, FrozenTeacher, MixedBatch, MixUp, SuperMix, SuperMixCallback
from supermix_pl.engine import BatchEngine, Engine, Run, StreamEngine
from supermix_pl.experiments import networks
from supermix_pl.experiments.bench.gpu.opened import Opened
from supermix_pl.experiments.bench.passes import timed
from supermix_pl.experiments.data import ArraySource, Shapes, SmallImageView
from supermix_pl.experiments.data.transfer import CPU
from supermix_pl.mixing import Mixer
from supermix_pl.transforms import RandomCropFlip

_SETS, _FIT_STEPS = 16, 6
_BATCHES, _BATCH_SIZE = 16, 128
_VIEW = RandomCropFlip()
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2}


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was found."""

    name: str  # what should hold
    passed: bool  # whether it does
    found: str  # numbers, or the error


def run_checks(opened: Opened) -> Iterator[Check]:
    """Check one after the other; an error is a check that failed."""
    checks: dict[str, Callable[[Opened], tuple[bool, str]]] = {
        "float64: mixes equal the CPU's": lambda opened: _like_cpu(opened, torch.float64),
        "float32 without TF32: mixes equal the CPU's": lambda opened: _like_cpu(opened, torch.float32),
        "bf16, channels_last: finite, most mixes hold or not as in float32": _low_precision,
        "compiled: mixes equal the eager ones": _compiled,
        "labels are the teacher's of the very image": lambda opened: _labels(opened, compiled=False),
        "compiled: labels are the teacher's of the very image": lambda opened: _labels(opened, compiled=True),
        "batches made on the device equal the CPU's": _batches,
        "training with the stream engine, FSDP on a GPU": _training,
    }
    for name, check in checks.items():
        try:
            passed, found = check(opened)
        except Exception as error:  # the other checks are still worth their time
            passed, found = False, f"{type(error).__name__}: {error}"
        yield Check(name=name, passed=passed, found=found)


def _mixers() -> list[SuperMix]:
    return [SuperMix(max_steps=3), SuperMix.fast(max_steps=3)]


def _like_cpu(opened: Opened, dtype: torch.dtype) -> tuple[bool, str]:
    here = FrozenTeacher(copy.deepcopy(opened.teacher.module).to(dtype))
    there = FrozenTeacher(copy.deepcopy(here.module).cpu())
    images = opened.images[:_SETS].to(dtype)
    apart, equal = [], []
    with _without_tf32():
        for mixer in _mixers():
            one, two = mixer(here, images, seed=0, view=_VIEW), mixer(there, images.cpu(), seed=0, view=_VIEW)
            apart.append(_apart(one, two))
            equal.append(_equally_held(one, two))
    found = f"largest difference of a pixel {max(apart):.1e}, {min(equal):.0%} of all mixes hold or not as there"
    return max(apart) <= _TOLERANCE[dtype] and min(equal) == 1.0, found


def _low_precision(opened: Opened) -> tuple[bool, str]:
    low = FrozenTeacher(opened.teacher.module, dtype="bfloat16", channels_last=True)
    equal, finite = [], True
    for mixer in _mixers():
        mix = mixer(low, opened.images, seed=0, view=_VIEW)
        finite = finite and bool(mix.images.isfinite().all()) and not bool(mix.non_finite.any())
        equal.append(_equally_held(mix, mixer(opened.teacher, opened.images, seed=0, view=_VIEW)))
    return finite and min(equal) >= 0.5, f"finite: {finite}, {min(equal):.0%} of all mixes hold or not as in float32"


def _compiled(opened: Opened) -> tuple[bool, str]:
    """Compare all mixes in float64, and most of them in float32, where rounding moves some masks far in three steps."""
    exact, _ = _compiled_in(opened, torch.float64)
    usual, found = _compiled_in(opened, torch.float32)
    largest, middle = float(exact.max()), float(usual.median())
    passed = largest <= _TOLERANCE[torch.float64] and middle <= _TOLERANCE[torch.float32]
    apart = f"largest difference of a mix: in float64 at most {largest:.1e}, in float32 mostly {middle:.1e}"
    return passed, f"{apart}; {found}"


def _compiled_in(opened: Opened, dtype: torch.dtype) -> tuple[Float[Tensor, " b"], str]:
    """Return each mix's largest difference from the eager one, and the times."""
    device, mixer = opened.images.device, SuperMix.fast(max_steps=3)  # no set leaves: one shape is compiled
    module, images = copy.deepcopy(opened.teacher.module).to(dtype), opened.images.to(dtype)
    compiled, plain = FrozenTeacher(module, compile=True), FrozenTeacher(module)
    with _without_tf32():
        _, first = timed(lambda: mixer(compiled, images, seed=0), device)
        for teacher in (compiled, plain):  # CUDA graphs are recorded in the second call
            mixer(teacher, images, seed=0)
        one, seconds = timed(lambda: mixer(compiled, images, seed=0), device)
        two, eager = timed(lambda: mixer(plain, images, seed=0), device)
    found = f"{1000 * seconds:.1f} ms for 3 steps, eager {1000 * eager:.1f} ms; {first:.0f} s to compile"
    return (one.images - two.images).abs().amax(dim=(1, 2, 3)), found


def _labels(opened: Opened, *, compiled: bool) -> tuple[bool, str]:
    """Show all that was shown to the teacher once more, and hold it against the labels that came with it.

    The same images mirrored must have other labels, or the check could not fail.
    """
    teacher, plain = FrozenTeacher(opened.teacher.module, compile=compiled), FrozenTeacher(opened.teacher.module)
    images, labels = opened.images[:_SETS], opened.labels[:_SETS]
    apart, mirrored = 0.0, float("inf")
    with _without_tf32(), torch.no_grad():
        for mixer, engine in _engines():
            engine.begin(Run())
            for step in range(_FIT_STEPS):
                mix = engine.mix(mixer, teacher, images, labels, seed=(0, step), view=_VIEW)
                assert mix.teacher_logits is not None
                apart = max(apart, float((mix.teacher_logits - plain(mix.images)).abs().max()))
                mirrored = min(mirrored, float((mix.teacher_logits - plain(mix.images.flip(3))).abs().max()))
    found = f"largest difference of a logit {apart:.1e}, mirrored at least {mirrored:.1e}"
    return apart <= _TOLERANCE[torch.float32] < mirrored, found


def _batches(opened: Opened) -> tuple[bool, str]:
    """Make a pass of training batches on the device, and on the CPU with a copy to the device."""
    device, middle = opened.images.device, (0.5, 0.5, 0.5)
    pixels = np.random.default_rng(0).integers(0, 256, (_BATCHES * _BATCH_SIZE, 3, 32, 32), dtype=np.uint8)
    labels, view = np.arange(len(pixels)), SmallImageView(cutout=16)
    source = ArraySource(images=pixels, labels=labels, mean=middle, std=middle, augment=view)

    def make(where: torch.device) -> list[Tensor]:
        batches = source.batches(np.split(labels, _BATCHES), stream=(0, 1), device=where)
        return [images.to(device) for images, _ in batches]

    make(device)
    (there, fast), (here, slow) = (timed(lambda where=where: make(where), device) for where in (device, CPU))
    times = f"{1000 * fast / _BATCHES:.2f} ms for {_BATCH_SIZE} images, on the CPU {1000 * slow / _BATCHES:.2f} ms"
    return all(map(torch.equal, there, here)), times


def _engines() -> list[tuple[Mixer, Engine]]:
    fast = SuperMix.fast(max_steps=3)
    return [(fast, StreamEngine(reuse=3)), (MixUp(), StreamEngine()), (fast, BatchEngine()), (CutMix(), BatchEngine())]


class _Student(pl.LightningModule):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.network = networks.resnet8(num_classes=num_classes)

    def training_step(self, batch: tuple[Float[Tensor, "b c h w"], Tensor]) -> Tensor:
        """Train on labels or soft targets."""
        loss = cross_entropy(self.network(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimizer."""
        return torch.optim.SGD(self.parameters(), lr=0.05)


def _training(opened: Opened) -> tuple[bool, str]:
    on_gpu = opened.images.is_cuda
    data = Shapes(train_size=_SETS * _FIT_STEPS, test_size=1, batch_size=_SETS)
    num_classes = opened.teacher.num_classes
    assert num_classes is not None
    torch.manual_seed(0)
    mixing = SuperMixCallback(
        FrozenTeacher(opened.teacher.module), SuperMix.fast(max_steps=3), engine=StreamEngine(reuse=3, slots=_SETS)
    )
    with TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="gpu" if on_gpu else "cpu",
            strategy="fsdp" if on_gpu else "auto",  # FSDPStrategy refuses the CPU
            devices=1,
            max_steps=_FIT_STEPS,
            callbacks=[mixing],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            default_root_dir=Path(folder),
        )
        trainer.fit(_Student(num_classes), datamodule=data)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    loss, stored = metrics.get("loss", float("nan")), metrics.get("supermix/stored", 0.0)
    passed = trainer.global_step == _FIT_STEPS and loss == loss and stored > 0
    return passed, f"{type(trainer.strategy).__name__}, {trainer.global_step} steps, {stored:.0f} solved sets stored"


def _apart(one: MixedBatch, two: MixedBatch) -> float:
    return float((one.images.detach().cpu() - two.images.detach().cpu()).abs().max())


def _equally_held(one: MixedBatch, two: MixedBatch) -> float:
    assert one.holds is not None
    assert two.holds is not None
    return float((one.holds.cpu() == two.holds.cpu()).float().mean())


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
