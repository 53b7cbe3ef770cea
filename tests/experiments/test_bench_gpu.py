"""The GPU's benchmark, run through on the CPU with a small network."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from supermix_pl.engine import BatchEngine, StreamEngine
from supermix_pl.experiments.bench import gpu, gpu_arguments, gpu_checks, step
from supermix_pl.experiments.bench.gpu_subjects import NETWORKS, Opened, open_network, subject_of
from supermix_pl.experiments.bench.step_training import CHEAP, REFERENCE, STREAM

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def opened() -> Opened:
    return open_network("resnet8", subject_of("resnet8", {}, {}, 8), CPU, 224)


def run(folder: Path, *more: str, code: int = 0) -> tuple[str, dict[str, Any]]:
    arguments = ["--device", "cpu", "--smoke", "--threads", "1", "--output", str(folder), *more]
    if code:
        with pytest.raises(SystemExit) as stop:
            gpu.main(arguments)
        assert stop.value.code == code
    else:
        gpu.main(arguments)
    written = folder / "gpu_cpu"
    return written.with_suffix(".md").read_text(), json.loads(written.with_suffix(".json").read_text())


def test_an_untrained_network_tells_images_apart(opened: Opened) -> None:
    assert opened.subject.checkpoint is None
    with torch.no_grad():
        logits = opened.teacher(opened.images)
        torch.testing.assert_close(logits, opened.teacher.module(opened.images), rtol=1e-3, atol=1e-3)
    assert len(set(logits.argmax(dim=1).tolist())) >= 3
    assert logits.mean(dim=0).abs().max() < 1e-3
    assert float(logits.std(dim=0).mean()) == pytest.approx(4.0, rel=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_its_settings(name: str) -> None:
    subject = subject_of(name, {name: "w.pth"}, {}, 8)
    large = name == "resnet34"
    assert subject.network == ("imagenet_" if large else "") + name
    assert (subject.checkpoint, subject.crop) == ("w.pth", None)
    assert subject_of(name, {}, {"imagenet": "x", "cifar": "y"}, 8).crop == (224 if large else None)


def test_embedded_images_are_enlarged_for_networks_of_large_ones() -> None:
    opened = open_network("resnet34", subject_of("resnet34", {}, {}, 4), CPU, 40)
    assert opened.images.shape == (4, 3, 40, 40)
    assert opened.student == "imagenet_resnet18"


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
    monkeypatch.setattr(gpu_checks, "_compiled_in", lambda opened, dtype: (apart[dtype], "fast"))
    assert gpu_checks._compiled(opened)[0] == passed


@pytest.mark.slow
def test_all_of_it(tmp_path: Path, unchecked: None) -> None:
    with torch._dynamo.config.patch(disable=True):
        text, content = run(tmp_path)
    assert [check["name"] for check in content["checks"] if not check["passed"]] == []
    assert len(content["checks"]) == 7
    assert [(each["teacher"], each["batch_size"], each["compiled"]) for each in content["steps"]] == [
        ("resnet8", 4, compiled) for compiled in (False, True)
    ]
    assert text.count("\n## ") == 2


def test_steps_beside_the_reference(tmp_path: Path) -> None:
    text, content = run(tmp_path, "--parts", "steps", "--passes", "eager")
    (found,) = content["steps"]
    assert list(found["timings"]) == [REFERENCE, STREAM, f"{STREAM}, {CHEAP}"]
    assert (found["student"], found["trained"], found["error"]) == ("resnet8", False, "")
    assert [round(timing["forwards"][0], 2) for timing in found["timings"].values()] == [1.0, 1.5, 1.0]
    assert "| resnet8 (untrained), resnet8 | 4 + 4 | eager | mixup |" in text
    assert "means nothing" in text
    assert "Checks" not in text


def test_checks_against_the_cpu(opened: Opened) -> None:
    for dtype in (torch.float64, torch.float32):
        assert gpu_checks._like_cpu(opened, dtype) == (
            True,
            "largest difference of a pixel 0.0e+00, 100% of all mixes hold or not as there",
        )
    assert gpu_checks._low_precision(opened)[0]


def test_labels_of_the_very_image(opened: Opened) -> None:
    passed, found = gpu_checks._labels(opened, compiled=False)
    assert passed, found


@pytest.mark.parametrize("engine", [StreamEngine, BatchEngine])
def test_labels_of_another_view_are_noticed(opened: Opened, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mix = engine.mix

    def late(self: Any, *arguments: Any, **options: Any) -> Any:
        made = mix(self, *arguments, **options)
        made.images = made.images.roll(1, dims=3)
        return made

    monkeypatch.setattr(engine, "mix", late)
    assert not gpu_checks._labels(opened, compiled=False)[0]


def test_a_check_that_breaks_has_failed(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> tuple[bool, str]:
        raise RuntimeError("no compiler")

    for name in ("_like_cpu", "_low_precision", "_compiled", "_labels", "_training"):
        monkeypatch.setattr(gpu_checks, name, broken)
    found = list(gpu_checks.run_checks(opened))
    assert [(check.passed, check.found) for check in found] == [(False, "RuntimeError: no compiler")] * 7


def test_an_error_stands_in_place_of_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> dict[str, Any]:
        raise ArithmeticError("lost")

    monkeypatch.setattr(step, "run", broken)
    text, content = run(tmp_path, "--parts", "steps", "--passes", "eager", code=1)
    assert [(each["error"], each["timings"]) for each in content["steps"]] == [("ArithmeticError: lost", {})]
    assert "| eager | ArithmeticError | - |" in text


def test_no_part_begins_after_the_time_is_up(tmp_path: Path) -> None:
    _, content = run(tmp_path, "--parts", "steps", "--minutes", "1e-9")
    assert content["steps"] == []


@pytest.mark.parametrize(
    ("command_line", "message"),
    [
        (["--batch-sizes", "1"], "expected --batch-sizes >= 2, got 1"),
        (["--minutes", "0"], "expected --minutes > 0, got 0.0"),
        (["--checkpoint", "resnet8=none.pth"], "expected --checkpoint NAME=PATH"),
        (["--data", "mnist=."], "expected --data NAME=PATH with a name of cifar, imagenet"),
        (["--networks", "resnet9"], "invalid choice: 'resnet9'"),
    ],
)
def test_bad_arguments(command_line: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        gpu_arguments.parse(["--device", "cpu", "--smoke", *command_line], "program")
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu_arguments.parse([], "program")
    assert "--device cpu --smoke needs none" in capsys.readouterr().err
