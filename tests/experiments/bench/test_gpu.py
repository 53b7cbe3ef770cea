"""The GPU's benchmark on a CPU: what its checks notice, and all of it in small."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from supermix_pl.engine import BatchEngine, StreamEngine
from supermix_pl.experiments.bench.gpu import __main__ as gpu
from supermix_pl.experiments.bench.gpu import checks
from supermix_pl.experiments.bench.gpu.opened import Opened, open_case
from supermix_pl.experiments.bench.step.contenders import CHEAP, RECOMMENDED, REFERENCE
from tests.experiments.bench.small import settings, written

CPU = torch.device("cpu")
NETWORK = {"_target_": "supermix_pl.experiments.networks.resnet8"}
CASE = OmegaConf.create({"teacher": NETWORK, "student": NETWORK, "size": 32})
SMOKE = ["bench/cases=smoke", "bench.threads=1"]


@pytest.fixture(scope="module")
def opened() -> Opened:
    return open_case(CASE, 8, CPU)


def run(folder: Path, *more: str, code: int = 0) -> tuple[str, dict[str, Any]]:
    arguments = [*SMOKE, f"bench.folder={folder}", *more]
    if code:
        with pytest.raises(SystemExit) as stop:
            gpu.main(arguments)
        assert stop.value.code == code
    else:
        gpu.main(arguments)
    return written(folder)


def test_an_untrained_network_tells_images_apart(opened: Opened) -> None:
    with torch.no_grad():
        logits = opened.teacher(opened.images)
        torch.testing.assert_close(logits, opened.teacher.module(opened.images), rtol=1e-3, atol=1e-3)
    assert len(set(logits.argmax(dim=1).tolist())) >= 3
    assert logits.mean(dim=0).abs().max() < 1e-3
    assert float(logits.std(dim=0).mean()) == pytest.approx(4.0, rel=1e-3)


@pytest.mark.parametrize(
    ("exact", "usual", "passed"),
    [
        ([0.0, 1e-7, 0.0], [0.0, 1e-5, 0.8], True),
        ([0.0, 1e-5, 0.0], [0.0, 1e-5, 0.8], False),
        ([0.0, 1e-7, 0.0], [0.0, 0.8, 0.8], False),
    ],
)
def test_compiled_mixes_agree_in_float64_and_mostly_in_float32(
    exact: list[float], usual: list[float], passed: bool, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = {torch.float64: torch.tensor(exact), torch.float32: torch.tensor(usual)}
    monkeypatch.setattr(checks, "_compiled_in", lambda opened, dtype: (apart[dtype], "fast"))
    assert checks._compiled(opened)[0] == passed


@pytest.mark.slow
def test_all_of_it(tmp_path: Path, unchecked: None) -> None:
    with torch._dynamo.config.patch(disable=True):
        text, content = run(tmp_path)
    assert [check["name"] for check in content["checks"] if not check["passed"]] == []
    assert len(content["checks"]) == 8
    assert [(each["networks"], each["batch_size"], each["compiled"]) for each in content["steps"]] == [
        ("resnet8, resnet8", 4, compiled) for compiled in (False, True)
    ]
    assert text.count("\n### ") == 2


def test_steps_beside_the_reference(tmp_path: Path) -> None:
    text, content = run(tmp_path, "bench.checks=false", "bench.compiled=[false]")
    (found,) = content["steps"]
    assert list(found["timings"]) == [REFERENCE, RECOMMENDED, CHEAP]
    assert [round(timing["forwards"][0], 2) for timing in found["timings"].values()] == [1.0, 1.5, 1.0]
    assert "| resnet8, resnet8 | 4 + 4 | eager | MixUp |" in text
    assert "Checks" not in text


def test_checks_against_the_cpu(opened: Opened) -> None:
    for dtype in (torch.float64, torch.float32):
        assert checks._like_cpu(opened, dtype) == (
            True,
            "largest difference of a pixel 0.0e+00, 100% of all mixes hold or not as there",
        )
    assert checks._low_precision(opened)[0]


def test_labels_of_the_very_image(opened: Opened) -> None:
    passed, found = checks._labels(opened, compiled=False)
    assert passed, found


def test_batches_of_another_view_are_noticed(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    passed, found = checks._batches(opened)
    assert passed, found
    made = iter(range(99))
    monkeypatch.setattr(checks.SmallImageView, "draw", lambda self, generator, count: np.full(count, next(made)))
    monkeypatch.setattr(checks.SmallImageView, "apply", lambda self, images, draws, *, fill: images + int(draws[0]))
    assert not checks._batches(opened)[0]


@pytest.mark.parametrize("engine", [StreamEngine, BatchEngine])
def test_labels_of_another_view_are_noticed(opened: Opened, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mix = engine.mix

    def late(self: Any, *arguments: Any, **options: Any) -> Any:
        made = mix(self, *arguments, **options)
        made.images = made.images.roll(1, dims=3)
        return made

    monkeypatch.setattr(engine, "mix", late)
    assert not checks._labels(opened, compiled=False)[0]


def test_a_check_that_breaks_has_failed(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> tuple[bool, str]:
        raise RuntimeError("no compiler")

    for name in ("_like_cpu", "_low_precision", "_compiled", "_labels", "_batches", "_training"):
        monkeypatch.setattr(checks, name, broken)
    found = list(checks.run_checks(opened))
    assert [(check.passed, check.found) for check in found] == [(False, "RuntimeError: no compiler")] * 8


def test_an_error_stands_in_place_of_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> dict[str, Any]:
        raise ArithmeticError("lost")

    monkeypatch.setattr(gpu, "time_steps", broken)
    text, content = run(tmp_path, "bench.checks=false", "bench.compiled=[false]", code=1)
    assert [(each["error"], each["timings"]) for each in content["steps"]] == [("ArithmeticError: lost", {})]
    assert "| eager | ArithmeticError | - |" in text


def test_no_part_begins_after_the_time_is_up(tmp_path: Path) -> None:
    _, content = run(tmp_path, "bench.checks=false", "bench.minutes=1e-9")
    assert content["steps"] == []


def test_cases_are_those_of_the_paper() -> None:
    _, found = settings("gpu", gpu.GpuSettings, "bench.device=cpu")
    assert [(name, case["size"]) for name, case in found.cases.items()] == [("small", 32), ("deep", 32), ("large", 224)]
    assert found.cases["large"]["teacher"]["_target_"].endswith("imagenet_resnet34")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_no_gpu() -> None:
    with pytest.raises(SystemExit, match="bench/cases=smoke needs none"):
        gpu.main([])
