"""Whatever reaches a training step, its logits and labels are the teacher's for exactly what is shown.

The teacher flattens its images, so that every view changes what it sees.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supermix_pl import FrozenTeacher
from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.tasks import Classification, Distillation
from supermix_pl.experiments.train import train
from supermix_pl.trainer.rewriting import BatchRewriter, Rewritten
from tests.composing import compose

CONF = Path(__file__).resolve().parents[2] / "conf"
METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml") if not path.stem.startswith("imagenet_"))
SILENT = ("plain", "randaugment", "autoaugment", "fast_autoaugment", "crd")  # no logits, no mixes
TEACHING = [method for method in METHODS if method not in SILENT]
LEADING = {  # a method of each kind; the others are slow tests
    *("kd", "kd_natural", "kd_imgnet32", "ce_supermix", "ce_supermix_batch", "kd_supermix", "kd_mixup"),
    *("kd_all_supermix", "kd_all_supermix_fixed", "kd_all_misplaced_fixed", "kd_all_half", "kd_all_mixup"),
    *("callback_supermix", "callback_distillation", "default_supermix"),
}
TOLERANCE: dict[str, Any] = {"atol": 2e-4, "rtol": 2e-4}
SMALL = [
    "scale=smoke",
    "network=resnet8",
    "data.train_size=40",
    "trainer.limit_train_batches=6",
    "trainer.max_epochs=1",
]
pytestmark = pytest.mark.filterwarnings("ignore:None of the . sets of a batch was solved")  # in a few steps


def flat_teacher(datamodule: ImageDataModule) -> FrozenTeacher:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        height, width = datamodule.image_size
        return FrozenTeacher(nn.Sequential(nn.Flatten(), nn.Linear(3 * height * width, datamodule.num_classes)))


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Check every training step of `supermix-train`; what was compared."""
    seen: list[str] = []
    for kind in (Classification, Distillation):
        step = kind.training_step

        def looked_at(task: Any, batch: Any, number: int, step: Any = step) -> Tensor:
            seen.extend(check(task, batch))
            return step(task, batch, number)

        monkeypatch.setattr(kind, "training_step", looked_at)
    return seen


def check(task: Classification, batch: Any) -> Iterator[str]:
    images, targets = batch[:2]
    mixing, natural = task.mixing, task.num_natural(len(images))
    teacher = task.teacher if isinstance(task, Distillation) else mixing.teacher if mixing else None
    assert teacher is not None
    shown = teacher(images)
    if isinstance(task, Distillation):
        matched = task.taught(images)[0]
        assert len(matched) == (len(images) if task.matched == "all" else natural or len(images))
        torch.testing.assert_close(matched, shown[: len(matched)], **TOLERANCE)
        yield "matched"
    if mixing is None:
        return
    rewriter = mixing._rewriter
    if rewriter.label_natural:
        torch.testing.assert_close(mixing.teacher_logits, shown, **TOLERANCE)
        yield "rows"
    if mixing.mix is not None:
        assert mixing.mix.teacher_logits is not None
        torch.testing.assert_close(mixing.mix.teacher_logits, shown[natural:], **TOLERANCE)
        yield "mix"
    if rewriter.targets == "teacher" and mixing.mix is not None:
        assert torch.equal(targets[natural:], shown[natural:].argmax(dim=1))
        yield "classes"
    if rewriter.targets == "teacher_soft":
        taught = (shown / rewriter.target_temperature).softmax(dim=1)
        torch.testing.assert_close(targets[natural:], taught[natural:], **TOLERANCE)
        if rewriter.natural_share == 1:
            torch.testing.assert_close(targets[:natural], taught[:natural], **TOLERANCE)
        yield "probabilities"


def run(folder: Path, *overrides: str) -> None:
    paths = [
        f"paths.root_dir={folder}",
        f"paths.output_dir={folder / 'run'}",
    ]
    config = compose("train", [*paths, *SMALL, *overrides])
    config.teacher = {"_target_": f"{__name__}.flat_teacher"}
    train(config)


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in LEADING)) for name in TEACHING],
)
def test_every_method(method: str, tmp_path: Path, checked: list[str]) -> None:
    from PIL import Image

    (tmp_path / "external").mkdir()
    for number in range(4):
        Image.new("RGB", (32, 32), (50 * number, 30, 90)).save(tmp_path / "external" / f"{number}.png")
    own = [f"mixes.folder={tmp_path / 'external'}"] if "imgnet32" in method else []
    run(tmp_path, f"method={method}", *own)
    assert checked.count("matched" if method.startswith("kd") else "mix") == 6


@pytest.mark.parametrize(
    ("matched", "mode"),
    [
        ("all", "extend"),
        ("natural", "replace"),
        pytest.param("all", "replace", marks=pytest.mark.slow),
        pytest.param("natural", "extend", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "mixed",
    [
        ["mixer=supermix_fast", "engine=stream"],
        pytest.param(["mixer=supermix_fast", "engine=batch"], marks=pytest.mark.slow),
        ["mixer=supermix", "engine=batch"],
        ["mixer=half", "engine=stream"],
        pytest.param(["mixer=cutmix", "engine=batch"], marks=pytest.mark.slow),
        ["mixer=supermix_fast", "mixes=fixed"],
    ],
    ids=lambda overrides: "-".join(override.partition("=")[2] for override in overrides),
)
def test_distillation_in_every_mode(
    mixed: list[str], matched: str, mode: str, tmp_path: Path, checked: list[str]
) -> None:
    some = ["mixing.every_n_batches=2"]  # and batches that are not mixed
    run(tmp_path, "task=distillation", f"task.matched={matched}", f"mixing.mode={mode}", *mixed, *some)
    assert checked.count("matched") == checked.count("rows") == 6
    assert checked.count("mix") == 3


@pytest.mark.parametrize("engine", ["stream", "batch"])
@pytest.mark.parametrize("targets", ["teacher", "teacher_soft"])
def test_labels_of_mixes_for_plain_cross_entropy(engine: str, targets: str, tmp_path: Path, checked: list[str]) -> None:
    soft = ["mixing.natural_targets=teacher", "mixing.target_temperature=2"] if targets == "teacher_soft" else []
    run(tmp_path, "mixer=supermix_fast", f"engine={engine}", f"mixing.targets={targets}", *soft)
    assert checked.count("classes" if targets == "teacher" else "probabilities") == 6


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize("method", ["kd_all_supermix", "kd_all_mixup", "kd_all_supermix_fixed", "kd_supermix_batch"])
def test_logits_of_another_view_would_be_noticed(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite = BatchRewriter.rewrite

    def stale(rewriter: BatchRewriter, *arguments: Any, **options: Any) -> Rewritten:
        rewritten = rewrite(rewriter, *arguments, **options)
        images, *rest = rewritten.batch
        return replace(rewritten, batch=[images.roll(1, dims=3), *rest])  # one pixel further

    monkeypatch.setattr(BatchRewriter, "rewrite", stale)
    with pytest.raises(AssertionError, match="not close"):
        run(tmp_path, f"method={method}")
