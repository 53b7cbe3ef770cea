"""The teacher's features come from the pass that gave its logits, of exactly the rows that the student sees."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supermix_pl import FrozenTeacher, MovingAverage, SuperMix, SuperMixCallback, SuperMixMixin
from supermix_pl.trainer.rewriting import Rewritten
from supermix_pl.transforms import RandomCropFlip
from tests.engine.streams import batch_of
from tests.integration.test_truth import CASES, rewriter_of
from tests.integration.toys import Student, loader_of, make_callback, make_trainer, natural_data
from tests.problems import NUM_CLASSES, Counting

SIZE = 6
CLOSE: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-4}
pytestmark = [
    pytest.mark.filterwarnings("ignore:None of the 6 sets of a batch was solved"),
]


def network() -> nn.Sequential:
    """Folds; the part behind the norm works in place."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            conv=nn.Conv2d(3, 4, 3, padding=1, stride=2),
            norm=nn.BatchNorm2d(4),
            relu=nn.ReLU(inplace=True),
            flat=nn.Flatten(),
            head=nn.Linear(64, NUM_CLASSES),
        )
        made = nn.Sequential(parts).eval()
        with torch.no_grad():
            parts["norm"].running_mean.normal_()  # pyright: ignore
            parts["head"].weight.mul_(8)  # pyright: ignore
    return made


def assert_of_rows(rewritten: Rewritten, rows: int) -> None:
    """Logits and features are those of another pass over the very rows."""
    shown = rewritten.batch[0].float()
    assert len(shown) == rows
    assert rewritten.teacher_logits is not None
    assert rewritten.teacher_features is not None
    assert not rewritten.teacher_features.requires_grad
    torch.testing.assert_close(rewritten.teacher_logits, network()(shown).detach(), **CLOSE)
    torch.testing.assert_close(rewritten.teacher_features, network()[:2](shown).detach(), **CLOSE)


@pytest.mark.parametrize("mode", ["extend", "replace"])
@pytest.mark.parametrize("case", CASES)
def test_features_are_of_exactly_the_rows(case: str, mode: str) -> None:
    teacher = FrozenTeacher(network(), features="norm")
    rewriter = rewriter_of(CASES[case], RandomCropFlip(padding=2), mode, "teacher")
    for step in range(5 if case.startswith("stream") else 2):
        rewritten = rewriter.rewrite(batch_of(step, SIZE), teacher, stream=(0, 0, step))
        assert_of_rows(rewritten, 2 * SIZE if mode == "extend" else SIZE)
    assert_of_rows(rewriter.leave_natural(batch_of(9, SIZE), teacher, NUM_CLASSES), SIZE)


@pytest.mark.parametrize("engine", ["batch", "stream"])
@pytest.mark.parametrize("ratio", [0.5, 1.5])
@pytest.mark.parametrize(
    "mixer", [SuperMix(mask_size=4, max_steps=2, chunk_size=2), SuperMix.fast(max_steps=2, chunk_size=4)]
)
def test_any_number_of_mixes_in_chunks(mixer: Any, ratio: float, engine: str) -> None:
    callback = SuperMixCallback(
        FrozenTeacher(network(), features="norm"),
        mixer,
        engine=engine,  # pyright: ignore
        mix_ratio=ratio,
        label_natural=True,
    )
    for step in range(3):
        rewritten = callback._rewriter.rewrite(batch_of(step, SIZE), callback.teacher, stream=(0, 0, step))
        assert_of_rows(rewritten, int((1 + ratio) * SIZE))


@pytest.mark.parametrize("case", ["batch, views", "stream, views", "stream, MixUp", "batch, MixUp"])
def test_they_cost_no_pass(case: str) -> None:
    """A solver on exact pixels alone needs a pass that labels, which other mixes have anyway."""
    passed = []
    for features in (None, "module.norm"):
        counting = Counting(network())
        teacher = FrozenTeacher(counting, fold=False, features=features)
        rewriter = rewriter_of(CASES[case], RandomCropFlip(padding=2), "extend", "teacher")
        for step in range(4):
            rewriter.rewrite(batch_of(step, SIZE), teacher, stream=(0, 0, step))
        passed.append((counting.forwards, counting.backwards))
    assert passed[0] == passed[1] or case == "batch, MixUp"
    assert passed[0] >= passed[1]


def test_a_training_step_has_them_and_nobody_pays_unasked(tmp_path: Path) -> None:
    shapes: list[Any] = []

    class Matching(SuperMixMixin, Student):
        def configure_supermix(self) -> SuperMixCallback:
            return make_callback(FrozenTeacher(network(), features="relu"), label_natural=True, every_n_batches=2)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            assert self.teacher_features is not None
            shapes.append((len(batch[0]), self.teacher_features.shape, self.teacher_features.dtype))
            return super().training_step(batch, batch_idx)

    student = Matching(num_classes=NUM_CLASSES)
    make_trainer(tmp_path).fit(student, loader_of([list(natural_data(4))] * 2))
    assert shapes == [(8, (8, 4, 4, 4), torch.float32), (4, (4, 4, 4, 4), torch.float32)]
    assert student.teacher_features is None
    trainer = make_trainer(tmp_path, make_callback(FrozenTeacher(network(), features="relu")))
    with pytest.raises(ValueError, match="expected label_natural=True for a teacher with features='relu'"):
        trainer.fit(Student(), loader_of([list(natural_data(4))]))


def test_a_moving_average_gives_them(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    class Own(Student):
        def forward(self, images: Tensor) -> Tensor:
            return self.layer(images.flatten(1))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            features, logits = callback.teacher_features, callback.teacher_logits
            assert features is not None
            assert logits is not None
            torch.testing.assert_close(features, logits)
            seen.append(features)
            return super().training_step(batch, batch_idx)

    callback = make_callback(MovingAverage(features="layer"), label_natural=True)
    make_trainer(tmp_path, callback).fit(Own(), loader_of([list(natural_data(4))] * 2))
    assert not seen[0].equal(seen[1])
    assert "features=layer" in repr(callback)
