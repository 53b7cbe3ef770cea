"""The GPU's benchmark, run through on the CPU with a small network."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from supermix_pl import FrozenTeacher
from supermix_pl.experiments.bench import gpu, gpu_arguments, gpu_checks, gpu_numbers
from supermix_pl.experiments.bench.gpu_numbers import Effort
from supermix_pl.experiments.bench.gpu_subjects import NETWORKS, Opened, open_network, subject_of

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
    assert not opened.trained
    with torch.no_grad():
        logits = opened.teacher(opened.images)
        torch.testing.assert_close(logits, opened.teacher.module(opened.images), rtol=1e-3, atol=1e-3)
    assert len(set(logits.argmax(dim=1).tolist())) >= 3
    assert logits.mean(dim=0).abs().max() < 1e-3
    assert float(logits.std(dim=0).mean()) == pytest.approx(4.0, rel=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_its_settings(name: str) -> None:
    subject = subject_of(name, {name: "w.pth"}, {}, 8)
    large = name in ("resnet34", "vgg16")
    assert subject.network == ("imagenet_" if large else "") + name
    assert (subject.checkpoint, subject.crop) == ("w.pth", None)
    assert subject_of(name, {}, {"imagenet": "x", "cifar": "y"}, 8).crop == (224 if large else None)


def test_embedded_images_are_enlarged_for_networks_of_large_ones() -> None:
    opened = open_network("resnet34", subject_of("resnet34", {}, {}, 4), CPU, 40)
    assert opened.images.shape == (4, 3, 40, 40)
    assert opened.mixer().mask_size == opened.fast().mask_size == 16


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
def test_short_parts(tmp_path: Path) -> None:
    text, content = run(tmp_path, "--parts", "accepted", "walltime", "largest")
    assert content["checks"] == []
    numbers = content["results"]["resnet8"]
    assert set(numbers) == {"accepted", "walltime", "largest"}
    assert numbers["largest"]["images"] == 8
    assert numbers["walltime"]["ratio"] == numbers["walltime"]["solver_ms"] / numbers["walltime"]["bare_ms"]
    assert "| largest batch | 8 |" in text
    assert "resnet8 (untrained)" in text
    assert "| 1: ratio (<= 1.25) | - |" in text
    assert "means nothing" in text


@pytest.mark.slow
def test_all_of_it(tmp_path: Path, unchecked: None) -> None:
    with torch._dynamo.config.patch(disable=True):
        text, content = run(tmp_path)
    assert all(check["passed"] for check in content["checks"])
    assert len(content["checks"]) == 6
    assert set(content["results"]["resnet8"]) == set(gpu_arguments.PARTS) - {"checks"}
    assert text.count("\n## ") == 2


def test_checks_against_the_cpu(opened: Opened) -> None:
    for dtype in (torch.float64, torch.float32):
        assert gpu_checks._like_cpu(opened, dtype) == (
            True,
            "largest difference of a pixel 0.0e+00, of all outcomes 100% equal",
        )
    assert gpu_checks._low_precision(opened)[0]


def test_a_check_that_breaks_has_failed(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> tuple[bool, str]:
        raise RuntimeError("no compiler")

    for name in ("_like_cpu", "_low_precision", "_compiled", "_compiled_stream", "_training"):
        monkeypatch.setattr(gpu_checks, name, broken)
    found = list(gpu_checks.run_checks(opened))
    assert [(check.passed, check.found) for check in found] == [(False, "RuntimeError: no compiler")] * 6


def test_an_error_stands_in_place_of_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> dict[str, Any]:
        raise ArithmeticError("lost")

    monkeypatch.setitem(gpu._PARTS, "walltime", broken)
    text, content = run(tmp_path, "--parts", "walltime", "largest", code=1)
    assert content["results"]["resnet8"]["walltime"] == {"error": "ArithmeticError: lost"}
    assert content["results"]["resnet8"]["largest"]["images"] == 8
    assert "| 2: batch engine, ms | ArithmeticError |" in text


def test_no_part_begins_after_the_time_is_up(tmp_path: Path) -> None:
    text, content = run(tmp_path, "--parts", "largest", "--minutes", "1e-9")
    assert content["results"] == {"resnet8": {}}
    assert "| largest batch | - |" in text


class Small(nn.Module):
    """Has memory for eight images, or for none that need a chunk."""

    def __init__(self, *, raises: Exception) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 5))
        self.raises = raises

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 8:
            raise self.raises
        return self.layers(images)


@pytest.mark.parametrize(
    ("error", "then"),
    [
        (torch.OutOfMemoryError("full"), "16 in chunks of 8"),
        (RuntimeError("too large for an index"), "ValueError: "),
    ],
)
def test_the_largest_batch_is_one_that_was_not_halved(opened: Opened, error: Exception, then: str) -> None:
    small = replace(
        opened, teacher=FrozenTeacher(Small(raises=error)), images=opened.images[:4], labels=opened.labels[:4]
    )
    found = gpu_numbers.largest_batch(small, Effort(most=64))
    assert found["images"] == 8
    assert found["then"].startswith(then)


@pytest.mark.parametrize(
    ("command_line", "message"),
    [
        (["--batch-size", "1"], "expected --batch-size >= 2, got 1"),
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
