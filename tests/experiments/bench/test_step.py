"""The step's benchmark: what it compares, what it counts, and the command end to end."""

from pathlib import Path

import pytest
import torch
from torch import nn

from supermix_pl import FrozenTeacher, MixUp, SuperMix
from supermix_pl.engine import BatchEngine, StreamEngine
from supermix_pl.experiments.bench import gpu, step
from supermix_pl.experiments.bench.step import (
    BATCH,
    RECOMMENDED,
    REFERENCE,
    Timing,
    Training,
    main,
    setups,
)
from supermix_pl.transforms import RandomCropFlip
from tests.experiments.bench.small import SMALL, settings, written
from tests.problems import Counting

CHEAP = f"{RECOMMENDED}, max_steps=6, show_from=0"
STREAMS = ({}, {"max_steps": 6, "show_from": 0})


def test_setups_and_what_they_are() -> None:
    found = setups([*STREAMS, {"reuse": 24, "sigma": 2.0}], 3)
    other = f"{RECOMMENDED}, reuse=24, sigma=2.0"
    assert list(found) == [REFERENCE, RECOMMENDED, CHEAP, other, BATCH]
    assert found[REFERENCE][0] == MixUp(k=3)
    assert found[RECOMMENDED][0] == found[BATCH][0] == SuperMix.fast(k=3)
    assert found[CHEAP][0] == SuperMix.fast(k=3, max_steps=6)
    assert found[other][0] == SuperMix.fast(k=3, sigma=2.0)
    engine = found[other][1]
    assert isinstance(engine, StreamEngine)
    assert engine._settings.reuse == 24
    assert isinstance(found[BATCH][1], BatchEngine)
    assert BATCH not in setups([], 2, with_batch=False)
    assert [*settings("step")[1].streams] == [*STREAMS]


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 49, 5))


def batch(seed: int, size: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    return torch.randn(size, 3, 16, 16, generator=chance), torch.randint(5, (size,), generator=chance)


@pytest.mark.parametrize(
    ("name", "forwards", "backwards"),
    [(REFERENCE, 1.0, 0.0), (RECOMMENDED, 1.5, 1.0), (CHEAP, 1.0, 0.5), (BATCH, 13.0, 12.0)],
)
def test_passes_a_shown_mix(name: str, forwards: float, backwards: float) -> None:
    """What the goals limit is what the teacher passes, natural images left out."""
    chosen = setups(STREAMS, 2)[name]
    counting = Counting(network())
    teacher = FrozenTeacher(counting, fold=False)
    training = Training(*chosen, network(1), teacher, RandomCropFlip(), low_precision=False)
    training.warm_up([batch(0), batch(1)])
    counting.forwards = counting.backwards = 0
    steps = 16 if name == BATCH else 4
    training.block([batch(seed) for seed in range(4)], 0, steps)
    timing = training.timing
    assert counting.forwards == sum(timing.forwards) * 12 + 4 * 12
    assert counting.backwards == sum(timing.backwards) * 12
    assert sum(timing.forwards) / 4 == pytest.approx(forwards)
    assert sum(timing.backwards) / 4 == pytest.approx(backwards)
    assert len(timing.holds) == 4
    assert 0 < timing.mixing[0] < timing.seconds[0]


def test_a_student_learns_from_the_teachers_logits_of_every_row() -> None:
    chosen = setups([{"max_steps": 2, "reuse": 4}], 2)["stream, max_steps=2, reuse=4"]
    teacher, student = FrozenTeacher(network()), network(1)
    training = Training(*chosen, student, teacher, RandomCropFlip(), low_precision=False)
    images, labels = batch(0)

    @torch.no_grad()
    def apart(student: nn.Module) -> float:
        return float((student(images) - teacher(images)).abs().mean())

    for _ in range(20):
        training.step(images, labels.flip(0))  # the labels are of no use
    assert apart(training.student) < 0.8 * apart(student)


def test_ratios_are_block_by_block() -> None:
    assert Timing(seconds=[2.0, 3.0]).ratios(Timing(seconds=[1.0, 6.0])) == [2.0, 0.5]


def test_rows_side_by_side(tmp_path: Path) -> None:
    few = ["network=resnet8", "trainer.precision=32-true", "teacher.dtype=null", "bench.images=16"]
    few += ["bench.batch_sizes=[8]", "bench.streams=[{max_steps:2,reuse:4}]", "bench.steps=2", "bench.blocks=2"]
    main([*SMALL, *few, f"bench.folder={tmp_path}"])
    text, content = written(tmp_path)
    timings = content["timings"]["8"]
    assert list(timings) == [REFERENCE, "stream, max_steps=2, reuse=4", BATCH]
    for name, timing in timings.items():
        assert len(timing["seconds"]) == len(timing["mixing"]) == len(timing["host"]) == 2
        assert min(timing["host"]) > 0
        assert len(timing["forwards"]) == 2 * (1 if name == BATCH else 2)
        assert f"| {name} |" in text
    assert "### Natural images, and as many mixes: 8" in text


@pytest.mark.slow
def test_the_gpus_settings_compile_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(step, "time_steps", lambda *given, **_: made.append(given) or {REFERENCE: Timing()})
    monkeypatch.setattr(step, "rows", lambda _: ())
    small = [*SMALL, "trainer.accelerator=cpu", "bench.images=16", "bench.batch_sizes=[8]", f"bench.folder={tmp_path}"]
    gpu.main(small)
    assert list(written(tmp_path)[1]["timings"]) == ["8", "8, compiled"]
    assert [teacher.compile for _, _, teacher, *_ in made] == [False, True]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_no_gpu() -> None:
    with pytest.raises(SystemExit, match=r"expected a GPU, got .* give trainer\.accelerator=cpu"):
        gpu.main(SMALL)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("bench.blocks=0", "bench.blocks"),
        ("bench.images=64", "bench.images to be an integer >= 128"),
        ("bench.batch_sizes=[1]", "expected bench.batch_sizes with numbers >= 2"),
        ("bench.streams=[{reuse:0}]", "reuse"),
    ],
)
def test_what_makes_no_sense(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings("step", override)
