"""Whether a GPU, where there is one, gives the mixes that it should: against the CPU, compiled, in bf16, sharded."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from supermix_pl import CutMix, FrozenTeacher, MixedBatch, MixUp, SuperMix, SuperMixCallback
from supermix_pl.engine import BatchEngine, Engine, Run, StreamEngine
from supermix_pl.experiments.data import ArraySource, SmallImageView
from supermix_pl.experiments.data.decoding import DecodingSource
from supermix_pl.experiments.data.pixels import Normalisation
from supermix_pl.experiments.data.rgb import EncodedFiles
from supermix_pl.experiments.networks.classifier import compile_in_place, last_linear
from supermix_pl.experiments.opening import composed, open_subject
from supermix_pl.experiments.shared.subject import Subject
from supermix_pl.mixing import Mixer
from supermix_pl.transforms import RandomCropFlip
from tests.integration.toys import TRAINER, Student

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
SETS, STEPS = 16, 6
VIEW = RandomCropFlip()
FAST = SuperMix.fast(max_steps=3)
MIXERS = [SuperMix(max_steps=3), FAST]
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2}


@pytest.fixture(scope="module")
def opened() -> Subject:
    """Large networks only where they are quick."""
    accelerator, network = ("gpu", "wrn_16_2") if ON_GPU else ("cpu", "resnet8")
    chosen = ["data.test_size=128", "teacher=untrained", f"network@teacher.network={network}", "teacher.fold=false"]
    config = composed("train", [*chosen, "mixer=supermix", f"trainer.accelerator={accelerator}"])
    subject = open_subject(config, num_images=128 if ON_GPU else 8)
    calibrate(subject.teacher.module, subject.images)
    return subject


@torch.no_grad()
def calibrate(module: torch.nn.Module, images: Tensor) -> None:
    """Fit an untrained network's batch norm and last layer to images, so that it gives them different classes."""
    module.train()
    for _ in range(20):
        module(images)
    logits, last = module.eval()(images), last_linear(module)
    scale = 4 / logits.std(dim=0).mean()
    last.weight *= scale
    last.bias.copy_((last.bias - logits.mean(dim=0)) * scale)


@pytest.fixture(autouse=True)
def _without_tf32() -> Iterator[None]:
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = before


def equally_held(one: MixedBatch, two: MixedBatch) -> float:
    assert one.holds is not None
    assert two.holds is not None
    return float((one.holds.cpu() == two.holds.cpu()).float().mean())


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("mixer", MIXERS, ids=["paper", "fast"])
def test_mixes_equal_the_cpus(mixer: SuperMix, dtype: torch.dtype, opened: Subject) -> None:
    here = FrozenTeacher(copy.deepcopy(opened.teacher.module).to(dtype))
    there = FrozenTeacher(copy.deepcopy(here.module).cpu())
    images = opened.images[:SETS].to(dtype)
    one, two = mixer(here, images, seed=0, view=VIEW), mixer(there, images.cpu(), seed=0, view=VIEW)
    assert float((one.images.cpu() - two.images).abs().max()) <= TOLERANCE[dtype]
    assert equally_held(one, two) == 1


@pytest.mark.parametrize("mixer", MIXERS, ids=["paper", "fast"])
def test_bfloat16_and_channels_last_are_finite_and_mostly_hold_as_float32(mixer: SuperMix, opened: Subject) -> None:
    low = FrozenTeacher(opened.teacher.module, dtype="bfloat16", channels_last=True)
    mix = mixer(low, opened.images, seed=0, view=VIEW)
    assert mix.images.isfinite().all()
    assert not mix.non_finite.any()
    assert equally_held(mix, mixer(opened.teacher, opened.images, seed=0, view=VIEW)) >= 0.5


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_compiled_mixes_equal_the_eager_ones(dtype: torch.dtype, opened: Subject) -> None:
    """All in float64, most in float32, where rounding moves some masks far in three steps."""
    module, images = copy.deepcopy(opened.teacher.module).to(dtype), opened.images.to(dtype)
    compiled, plain = FrozenTeacher(module, compile=True), FrozenTeacher(module)
    with torch._dynamo.config.patch(disable=not ON_GPU):
        for _ in range(2):  # CUDA graphs are recorded in the second call
            FAST(compiled, images, seed=0)
        apart = (FAST(compiled, images, seed=0).images - FAST(plain, images, seed=0).images).abs().amax(dim=(1, 2, 3))
    assert float(apart.max() if dtype == torch.float64 else apart.median()) <= TOLERANCE[dtype]


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("mixer", "engine"),
    [(FAST, StreamEngine(reuse=3)), (MixUp(), StreamEngine()), (FAST, BatchEngine()), (CutMix(), BatchEngine())],
    ids=["fast in the stream", "MixUp in the stream", "fast", "CutMix"],
)
def test_labels_are_the_teachers_of_the_very_image(
    mixer: Mixer, engine: Engine, compiled: bool, opened: Subject
) -> None:
    """The same images mirrored must have other labels, or the test could not fail."""
    teacher, plain = FrozenTeacher(opened.teacher.module, compile=compiled), FrozenTeacher(opened.teacher.module)
    engine.begin(Run())
    with torch.no_grad(), torch._dynamo.config.patch(disable=not ON_GPU):
        for step in range(STEPS):
            mix = engine.mix(mixer, teacher, opened.images[:SETS], opened.labels[:SETS], seed=(0, step), view=VIEW)
            assert mix.teacher_logits is not None
            apart, mirrored = (
                float((mix.teacher_logits - plain(images)).abs().max()) for images in (mix.images, mix.images.flip(3))
            )
            assert apart <= TOLERANCE[torch.float32] < mirrored


class Encoded(EncodedFiles):
    """Images that workers decode."""

    def __init__(self) -> None:
        super().__init__([Path()] * 64, range(64))

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(PIXELS[index].transpose(1, 2, 0))


PIXELS = np.random.default_rng(0).integers(0, 256, (64, 3, 32, 32), dtype=np.uint8)
STATISTICS = Normalisation((0.5, 0.5, 0.5), (0.2, 0.3, 0.4))
CROP = v2.Compose([v2.RandomResizedCrop(32), v2.PILToTensor()])
SOURCES = {
    "small": ArraySource(
        images=PIXELS, labels=np.arange(64), augment=SmallImageView(cutout=16), normalisation=STATISTICS
    ),
    "decoded": DecodingSource(
        images=Encoded(),
        training_view=CROP,
        evaluation_view=CROP,
        augment=None,
        num_workers=2,
        normalisation=STATISTICS,
    ),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_batches_made_on_the_device_equal_the_cpus(kind: str) -> None:
    here, there = (
        [images for images, _ in SOURCES[kind].batches(np.split(np.arange(64), 4), stream=(0, 1), device=device)]
        for device in (DEVICE, torch.device("cpu"))
    )
    assert {images.device.type for images in here} == {DEVICE.type}
    assert all(torch.equal(one.cpu(), other) for one, other in zip(here, there, strict=True))


@pytest.mark.slow
def test_a_compiled_student_trains_as_an_eager_one(opened: Subject) -> None:
    weights = []
    for compiled in (False, True):
        student = copy.deepcopy(opened.teacher.module).double().train().requires_grad_(True)
        if compiled:
            compile_in_place(student, on_gpu=ON_GPU)
        optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9)
        with torch._dynamo.config.patch(disable=not ON_GPU):
            for _ in range(4):  # CUDA graphs are recorded in the second step
                optimizer.zero_grad()
                cross_entropy(student(opened.images.double()), opened.labels).backward()
                optimizer.step()
        weights.append(torch.cat([weight.detach().flatten() for weight in student.parameters()]))
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=1e-6)


@pytest.mark.skipif(not ON_GPU, reason="FSDPStrategy refuses the CPU")
def test_a_sharded_training_with_the_stream(opened: Subject, tmp_path: Path) -> None:
    student: Any = Student(num_classes=10)
    student.layer = torch.nn.Linear(3 * 32 * 32, 10)
    data = DataLoader(TensorDataset(*(Tensor.cpu(each) for each in (opened.images, opened.labels))), SETS)
    mixing = SuperMixCallback(opened.teacher, FAST, engine=StreamEngine(reuse=3, slots=SETS))
    options = {**TRAINER, "accelerator": "gpu", "strategy": "fsdp", "default_root_dir": tmp_path}
    trainer = pl.Trainer(**options, max_steps=STEPS, callbacks=[mixing])
    trainer.fit(student, data)
    torch.distributed.destroy_process_group()
    assert trainer.global_step == STEPS
    assert trainer.callback_metrics["supermix/stored"] > 0
