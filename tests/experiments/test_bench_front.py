"""The front's benchmark: what it says of masks, its solvers, and the command end to end on embedded data."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from supermix_pl import FrozenTeacher, MixedBatch, SuperMix
from supermix_pl.experiments.bench import front, front_arguments, front_report
from supermix_pl.experiments.bench.curve import mix_batch
from supermix_pl.experiments.bench.front_rows import Row, saliency_kept, worth
from supermix_pl.experiments.bench.front_solvers import FAST, NAMES, PAPER, solvers
from tests.problems import SmoothTeacher, natural_images

BASE = SuperMix(mask_size=4, max_steps=9, pairing="distinct")


def mixed(mixer: SuperMix = BASE) -> MixedBatch:
    return mixer(SmoothTeacher(), natural_images(12), seed=0)


def test_saliency_kept_set_by_set() -> None:
    mix, saliency = mixed(), torch.rand(12, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for row, kept in enumerate(saliency_kept(mix, saliency).tolist()):
        parts = [
            float((mask * saliency[source]).sum() / saliency[source].sum())
            for mask, source in zip(mix.masks[row], mix.source_indices[row].tolist(), strict=True)
        ]
        assert kept == pytest.approx(sum(parts) / 2)


def test_masks_that_are_equal_keep_an_equal_share() -> None:
    mix = dataclasses.replace(mixed(), masks=torch.full((12, 2, 12, 12), 0.5).double())
    torch.testing.assert_close(saliency_kept(mix, torch.rand(12, 12, 12).double()), torch.full((12,), 0.5).double())


def test_worth_of_the_weights() -> None:
    mix = mixed()
    assert mix.teacher_logits is not None
    found = worth(mix, torch.ones(12, 12, 12).double())
    for row in range(12):
        predicted, target = mix.teacher_logits[row].log_softmax(0), mix.soft_targets[row]
        expected = sum(float(y * (y.log() - log_p)) for y, log_p in zip(target, predicted, strict=True) if y > 0)
        assert float(found.divergence[row]) == pytest.approx(expected)
        heaviest = mix.source_classes[row, mix.mix_weights[row].argmax()]
        assert bool(found.heaviest[row]) == bool(mix.teacher_logits[row].argmax() == heaviest)


@pytest.mark.parametrize("name", [PAPER, FAST])
def test_numbers_are_those_of_a_mixer_with_that_limit(name: str) -> None:
    mixer, teacher, images = solvers(BASE)[name], FrozenTeacher(SmoothTeacher()), natural_images(12)
    saliency = torch.rand(12, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    run, mix = mix_batch(mixer, teacher, images, torch.zeros(12).long(), seed=(0,))
    row = Row(name=name, split="test", mixer=mixer, runs=[run], worths=[worth(mix, saliency)])
    solved = set()
    for cap in (1, 3, 9):
        short = dataclasses.replace(mixer, max_steps=cap)(teacher, images, seed=(0,))
        numbers = row.numbers(cap)
        assert numbers["solved"] == int(short.solved.sum())
        assert numbers["forwards_per_attempted"] == pytest.approx(short.teacher_forwards / 12)
        assert numbers["backwards_per_attempted"] == pytest.approx(short.teacher_backwards / 12)
        assert numbers["solved_per_forward"] == pytest.approx(int(short.solved.sum()) / short.teacher_forwards)
        kept = saliency_kept(short, saliency)
        assert numbers["kept"] == pytest.approx(float(kept[short.solved].mean()))
        solved.add(numbers["solved"])
        if cap == 9:
            assert row.kept_by_all() == pytest.approx(float(kept.mean()))
    assert len(solved) >= 2, "the setting tests too little"


def test_solvers_differ_in_what_their_names_say() -> None:
    made = solvers(dataclasses.replace(BASE, k=3, alpha=2.0, classes="labels"))
    assert tuple(made) == NAMES
    assert len(set(made.values())) == len(NAMES)
    for mixer in made.values():
        assert (mixer.k, mixer.alpha, mixer.mask_size, mixer.max_steps) == (3, 2.0, 4, 9)
        assert (mixer.pairing, mixer.classes) == ("distinct", "labels")


def run_command(folder: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    small = ["--teacher", "cifar:untrained:resnet8", "--data", "shapes", "--sets", "8", "--batch-size", "4"]
    front.main([*small, "--caps", "4", "2", "--output", str(folder), *arguments])
    (written,) = folder.glob("*.json")
    return written.with_suffix(".md").read_text(), json.loads(written.read_text())


@pytest.mark.slow
def test_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, content = run_command(tmp_path, "--solvers", "margin")
    assert [(row["solver"], row["split"]) for row in content["solvers"]] == [
        (name, split) for split in ("train", "test") for name in (PAPER, "margin", FAST)
    ]
    for row in content["solvers"]:
        assert [numbers["cap"] for numbers in row["limits"]] == [0, 1, 2, 3, 4]
        assert {numbers["sets"] for numbers in row["limits"]} == {8}
        assert row["limits"][0]["forwards_per_attempted"] == 2 - (row["solver"] != FAST)
        assert 0 <= row["kept_by_all_sets"] <= 1
        assert f"| {row['solver']} | {row['split']} | 2 |" in text
    verdicts = {(each["split"], each["target"]): each["verdict"] for each in content["targets"]}
    assert {split for split, _ in verdicts} == {"train", "test"}
    assert ("test", "solved >= 0.98") in verdicts
    assert set(verdicts.values()) <= {"met", "missed", "not measured"}
    assert content["provenance"]["command"].startswith("python -m supermix_pl.experiments.bench.front --teacher cifar:")
    assert "Targets for SuperMix.fast, limit 4" in capsys.readouterr().out
    with Image.open(tmp_path / "cifar100_k2_cpu.png") as picture:
        assert picture.width > 1000
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        assert len(np.unique(pixels, axis=0)) > 50


def test_targets_are_held_against_both_solvers() -> None:
    rows = []
    for name, mixer in solvers(BASE).items():
        if name in (PAPER, FAST):
            teacher, images = FrozenTeacher(SmoothTeacher()), natural_images(12)
            run, mix = mix_batch(mixer, teacher, images, torch.zeros(12).long(), seed=(0,))
            rows.append(
                Row(name=name, split="test", mixer=mixer, runs=[run], worths=[worth(mix, torch.ones(12, 12, 12))])
            )
    found = {each["target"]: each for each in front_report.targets(rows, "cifar100", [9])}
    paper, fast = (row.numbers(9) for row in rows)
    assert paper["solved_per_forward"]
    assert fast["solved_per_forward"]
    ratio = fast["solved_per_forward"] / paper["solved_per_forward"]
    each = found["solved / forward, over the paper's solver's >= 2"]
    assert (each["found"], each["verdict"]) == (f"{ratio:.3f}", "met" if ratio >= 2 else "missed")
    assert found["forwards / attempted set <= 9"]["found"] == f"{fast['forwards_per_attempted']:.3f}"
    assert not any(target.startswith("forwards") for target in _names(front_report.targets(rows, "imagenet", [9])))


def _names(targets: list[dict[str, str]]) -> list[str]:
    return [each["target"] for each in targets]


@pytest.mark.parametrize(
    ("command_line", "message"),
    [
        (["--k", "1"], "expected --k >= 2, got 1"),
        (["--first", "-1"], "expected --first >= 0, got -1"),
        (["--caps", "0"], "expected --caps >= 1, got 0"),
        (["--sets", "9", "--batch-size", "4"], "got a last one of 1"),
        (["--data", "nowhere"], "expected Parquet shards in --data FOLDER, got nowhere"),
        (["--teacher", "cifar"], "expected --teacher"),
        (["--solvers", "slow"], "invalid choice: 'slow'"),
        (["--device", "gpu"], "expected --device cpu"),
    ],
)
def test_bad_arguments(command_line: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--teacher", "cifar:untrained:resnet8", "--data", "shapes", *command_line]
    with pytest.raises(SystemExit) as stop:
        front_arguments.parse(given, "program")
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="front: error: "):
        run_command(tmp_path, "--output", str(tmp_path / "file" / "folder"))
