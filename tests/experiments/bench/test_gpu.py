"""The GPU's benchmark on a CPU, in small."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from supermix_pl.experiments.bench import gpu
from supermix_pl.experiments.bench.step import RECOMMENDED, REFERENCE
from tests.experiments.bench.small import settings, written

CPU = torch.device("cpu")
NETWORK = {"_target_": "supermix_pl.experiments.networks.resnet8"}
CASE = OmegaConf.create({"teacher": NETWORK, "student": NETWORK, "size": 32})
SMOKE = ["bench/cases=smoke", "bench.threads=1"]


def run(folder: Path, *more: str, code: int = 0) -> tuple[str, dict[str, Any]]:
    arguments = [*SMOKE, f"bench.folder={folder}", *more]
    if code:
        with pytest.raises(SystemExit) as stop:
            gpu.main(arguments)
        assert stop.value.code == code
    else:
        gpu.main(arguments)
    return written(folder)


def test_an_untrained_network_tells_images_apart() -> None:
    opened, _ = gpu.open_case(CASE, 8, CPU)
    with torch.no_grad():
        logits = opened.teacher(opened.images)
        torch.testing.assert_close(logits, opened.teacher.module(opened.images), rtol=1e-3, atol=1e-3)
    assert len(set(logits.argmax(dim=1).tolist())) >= 3
    assert logits.mean(dim=0).abs().max() < 1e-3
    assert float(logits.std(dim=0).mean()) == pytest.approx(4.0, rel=1e-3)


@pytest.mark.slow
def test_all_of_it(tmp_path: Path, unchecked: None) -> None:
    with torch._dynamo.config.patch(disable=True):
        text, content = run(tmp_path)
    assert [(each["networks"], each["batch_size"], each["compiled"]) for each in content["steps"]] == [
        ("resnet8, resnet8", 4, compiled) for compiled in (False, True)
    ]
    assert text.count("\n### ") == 1


@pytest.mark.slow
def test_steps_beside_the_reference(tmp_path: Path) -> None:
    text, content = run(tmp_path, "bench.compiled=[false]")
    (found,) = content["steps"]
    assert list(found["timings"]) == [REFERENCE, RECOMMENDED, f"{RECOMMENDED}, max_steps=6, show_from=0"]
    assert [round(timing["forwards"][0], 2) for timing in found["timings"].values()] == [1.0, 1.5, 1.0]
    assert "| resnet8, resnet8 | 4 + 4 | eager | MixUp |" in text


def test_an_error_stands_in_place_of_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> dict[str, Any]:
        raise ArithmeticError("lost")

    monkeypatch.setattr(gpu, "time_steps", broken)
    text, content = run(tmp_path, "bench.compiled=[false]", code=1)
    assert [(each["error"], each["timings"]) for each in content["steps"]] == [("ArithmeticError: lost", {})]
    assert "| eager | ArithmeticError | - |" in text


def test_no_part_begins_after_the_time_is_up(tmp_path: Path) -> None:
    _, content = run(tmp_path, "bench.minutes=1e-9")
    assert content["steps"] == []


def test_cases_are_those_of_the_paper() -> None:
    _, found = settings("gpu", gpu.GpuSettings, "bench.device=cpu")
    assert [(name, case["size"]) for name, case in found.cases.items()] == [("small", 32), ("deep", 32), ("large", 224)]
    assert found.cases["large"]["teacher"]["_target_"].endswith("imagenet_resnet34")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_no_gpu() -> None:
    with pytest.raises(SystemExit, match="bench/cases=smoke needs none"):
        gpu.main([])
