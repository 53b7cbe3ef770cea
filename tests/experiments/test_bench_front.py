"""The front's benchmark: snapshots of a run, what holds under fresh views, its settings, and the command end to end."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from supermix_pl import FrozenTeacher, MixUp, SuperMix
from supermix_pl.experiments.bench import front, front_arguments, front_report
from supermix_pl.experiments.bench.calls import arguments_in
from supermix_pl.experiments.bench.front_rows import Row, measure_batch, saliency_kept
from supermix_pl.experiments.bench.front_settings import BEFORE, CUTMIX, FAST, MIXUP, NEIGHBOURS, PAPER, settings
from supermix_pl.experiments.bench.snapshots import look, snapshots
from supermix_pl.transforms import RandomCropFlip, RandomResizedCropFlip
from tests.problems import SmoothTeacher, natural_images

BASE = SuperMix(mask_size=4, pairing="distinct")
ROUNDS = (1, 2, 4)
VIEW = RandomCropFlip(padding=1)
SMALL = ["--teacher", "cifar:untrained:resnet8", "--data", "shapes", "--sets", "8", "--batch-size", "4"]


def teacher() -> FrozenTeacher:
    wrapped = FrozenTeacher(SmoothTeacher())
    wrapped(natural_images(1))  # from now on it knows how many classes there are
    return wrapped


def mixers() -> dict[str, Any]:
    return settings(BASE, ["views=None, mask_size=4", "mask_size=6, init='contrast'"], ROUNDS[-1])


@pytest.mark.parametrize("name", [*mixers()])
def test_a_snapshot_is_what_a_mixer_with_that_limit_gives(name: str) -> None:
    mixer, images = mixers()[name], natural_images(12)
    found = snapshots(mixer, teacher(), images, None, seed=(0, 3), rounds=ROUNDS, view=VIEW)
    assert [each.rounds for each in found] == list(ROUNDS)
    for each in found:
        limited = dataclasses.replace(mixer, max_steps=each.rounds) if isinstance(mixer, SuperMix) else mixer
        mix = limited(teacher(), images, seed=(0, 3), view=VIEW)
        torch.testing.assert_close(each.mix.masks, mix.masks)
        assert each.mix.source_indices.equal(mix.source_indices)
        assert each.mix.num_steps.equal(mix.num_steps)
        passes = mix.teacher_forwards - mix.label_forwards, mix.teacher_backwards
        assert (each.mix.teacher_forwards - each.mix.label_forwards, each.mix.teacher_backwards) == passes
    masks = [each.mix.masks for each in found]
    assert masks[0].equal(masks[-1]) == (not isinstance(mixer, SuperMix)), "the setting tests too little"


def test_looks_are_the_teachers_of_fresh_views() -> None:
    mixer = SuperMix.fast(mask_size=4)
    (found,) = snapshots(mixer, teacher(), natural_images(12), None, seed=(0,), rounds=[3], view=VIEW)
    looks = look(found, teacher(), VIEW, 5)
    for row in range(12):
        classes = sorted(set(found.mix.source_classes[row].tolist()))
        for view in range(5):
            logits = SmoothTeacher()(looks.images[row, view][None])[0].detach()
            torch.testing.assert_close(looks.logits[row, view], logits)
            assert bool(looks.holds[row, view]) == (sorted(logits.topk(len(classes)).indices.tolist()) == classes)
            assert float(looks.probability[row, view]) == pytest.approx(float(logits.softmax(0)[classes].sum()))
    assert 0 < int(looks.holds.sum()) < looks.holds.numel(), "the setting tests too little"
    counted = looks.holds[looks.fresh]
    assert looks.share == pytest.approx(float(counted.double().mean()))
    drawn = (looks.images[:, 0] - looks.images[:, 1]).abs().amax(dim=(1, 2, 3))
    assert int((drawn > 0).sum()) > 6


@pytest.mark.parametrize(
    ("views", "shown", "fresh"),
    [
        (RandomCropFlip(padding=0, flip_probability=0.0), RandomCropFlip(padding=0, flip_probability=0.0), "none"),
        (RandomCropFlip(padding=0), RandomCropFlip(padding=0), "none"),
        (None, RandomCropFlip(padding=0), "all"),
        (RandomResizedCropFlip(), RandomCropFlip(padding=0), "all"),
        (VIEW, VIEW, "some"),
    ],
)
def test_views_that_a_set_was_solved_on_are_not_fresh(views: Any, shown: Any, fresh: str) -> None:
    mixer = SuperMix.fast(mask_size=4, views=views)
    (found,) = snapshots(mixer, teacher(), natural_images(6), None, seed=(0,), rounds=[20], view=shown)
    assert found.mix.num_steps.tolist() == 6 * [20]  # more than the mixer's own limit
    looks = look(found, teacher(), shown, 8)
    share = float(looks.fresh.double().mean())
    assert {"none": share == 0, "all": share == 1, "some": 0 < share < 1}[fresh]
    if fresh == "some":
        again = VIEW.apply(found.mix.images, VIEW.draw(found.keys, torch.full_like(found.keys, 7), (12, 12)))
        seen = (looks.images == again[:, None]).all(dim=(2, 3, 4))
        assert not (seen & looks.fresh).any()


def test_saliency_kept_set_by_set() -> None:
    mix = BASE(teacher(), natural_images(12), seed=0)
    saliency = torch.rand(12, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for row, kept in enumerate(saliency_kept(mix, saliency).tolist()):
        parts = [
            float((mask * saliency[source]).sum() / saliency[source].sum())
            for mask, source in zip(mix.masks[row], mix.source_indices[row].tolist(), strict=True)
        ]
        assert kept == pytest.approx(sum(parts) / 2)


def test_masks_that_are_equal_keep_an_equal_share() -> None:
    mix = BASE(teacher(), natural_images(12), seed=0)
    mix = dataclasses.replace(mix, masks=torch.full((12, 2, 12, 12), 0.5).double())
    torch.testing.assert_close(saliency_kept(mix, torch.rand(12, 12, 12).double()), torch.full((12,), 0.5).double())


def measured(name: str, batches: int = 2) -> Row:
    row = Row(name=name, split="test", mixer=mixers()[name])
    for number in range(batches):
        images, saliency = natural_images(6, seed=number), torch.ones(6, 12, 12).double()
        options: dict[str, Any] = {"seed": (0, number), "rounds": ROUNDS, "view": VIEW, "views": 3}
        measure_batch(row, teacher(), images, None, saliency, **options)
    return row


def test_numbers_of_a_row_are_means_over_its_batches() -> None:
    row = measured(FAST)
    for rounds in ROUNDS:
        numbers, worths = row.numbers(rounds), row.worths[rounds]
        assert numbers["sets"] == 12
        assert (numbers["forwards"], numbers["backwards"]) == (rounds + 1, rounds)
        fresh = torch.cat([each.fresh for each in worths])
        holds = torch.cat([each.holds for each in worths])
        assert numbers["holds"] == pytest.approx(float(holds[fresh].double().mean()))
        assert numbers["holds_of_all_views"] == pytest.approx(float(holds.double().mean()))
        assert numbers["kept"] == pytest.approx(0.5)
    assert row.numbers(ROUNDS[-1])["softness"] < row.numbers(ROUNDS[0])["softness"] < 0.25
    assert measured(MIXUP).numbers(2)["forwards"] == 1


def test_settings_differ_in_what_their_names_say() -> None:
    made = settings(dataclasses.replace(BASE, k=3, alpha=2.0, classes="labels"), NEIGHBOURS, 9)
    assert list(made)[:3] == [PAPER, BEFORE, FAST]
    assert list(made)[-2:] == [MIXUP, CUTMIX]
    assert len(set(made.values())) == len(made)
    for name, mixer in made.items():
        assert (mixer.k, mixer.pairing) == (3, "distinct")
        if isinstance(mixer, SuperMix):
            assert (mixer.alpha, mixer.classes, mixer.max_steps) == (2.0, "labels", 9)
            assert (mixer == SuperMix.fast(k=3, alpha=2.0, classes="labels", max_steps=9)) == (name == FAST)
    shared: dict[str, Any] = {"k": 3, "alpha": 2.0, "classes": "labels", "max_steps": 9}
    assert made[f"{FAST}, lambda_s=30.0"] == SuperMix.fast(lambda_s=30.0, **shared)
    same = f"sigma={SuperMix.fast().sigma}"
    assert f"{FAST}, {same}" not in settings(BASE, [same], 9)


def test_arguments_are_read_as_in_a_call() -> None:
    assert arguments_in("") == {}
    assert arguments_in("a=1, b=None, c='x', d=(1, 2)") == {"a": 1, "b": None, "c": "x", "d": (1, 2)}
    for text in ("3", "a=print()", "a=", "**{}", "a=b"):
        with pytest.raises(ValueError, match="expected NAME=VALUE"):
            arguments_in(text)


def test_goals_are_held_against_the_best_setting_within_the_passes() -> None:
    rows = [measured(name) for name in (PAPER, FAST, MIXUP)]
    goals = ((2.5, 0.0), (5.5, 1.01), (0.5, 0.5))
    found = {(each["goal"].rpartition(" than ")[2], each["setting"]): each for each in front_report.check(rows, goals)}
    one, last = (rows[1].numbers(rounds)["holds"] for rounds in (1, 4))
    assert found["2.5 forwards a mix", FAST]["found"] == f"{100 * one:.1f}"
    assert found["2.5 forwards a mix", FAST]["verdict"] == "met"
    best = max(row.numbers(rounds)["holds"] for row in rows for rounds in ROUNDS)
    assert max(float(each["found"]) for (goal, _), each in found.items() if goal[:3] == "5.5") == round(100 * best, 1)
    assert found["5.5 forwards a mix", FAST]["verdict"] == "missed"
    assert float(found["5.5 forwards a mix", FAST]["found"]) >= round(100 * last, 1)
    nothing = found["0.5 forwards a mix", FAST]
    assert (nothing["found"], nothing["verdict"]) == ("-", "not measured")


def run_command(folder: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    front.main(
        [*SMALL, "--rounds", "3", "1", "--views", "2", "--tried", "sigma=2.0", "--output", str(folder), *arguments]
    )
    (written,) = folder.glob("*.json")
    return written.with_suffix(".md").read_text(), json.loads(written.read_text())


def test_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, content = run_command(tmp_path)
    names = [PAPER, BEFORE, FAST, f"{FAST}, sigma=2.0", MIXUP, CUTMIX]
    rows = content["settings_of_the_solver"]
    assert [(row["setting"], row["split"]) for row in rows] == [(n, s) for s in ("train", "test") for n in names]
    for row in rows:
        assert [numbers["rounds"] for numbers in row["after"]] == [1, 3]
        assert {numbers["sets"] for numbers in row["after"]} == {8}
        assert all(0 <= numbers["holds"] <= 1 for numbers in row["after"])
    fast = [row["after"][1] for row in rows if row["setting"] == FAST]
    assert {numbers["forwards"] for numbers in fast} == {3}  # classes are the labels: no pass of the natural images
    cell = " / ".join(f"{100 * numbers['holds']:.1f}" for numbers in fast)
    (line,) = [line for line in text.partition("## Passes")[0].splitlines() if line.startswith(f"| {FAST} |")]
    assert line.endswith(f"| {cell} |")
    assert {each["verdict"] for each in content["goals"]} <= {"met", "missed", "not measured"}
    assert content["provenance"]["command"].startswith("python -m supermix_pl.experiments.bench.front --teacher cifar:")
    assert "Holds under fresh views" in capsys.readouterr().out
    with Image.open(tmp_path / "cifar100_k2_cpu.png") as picture:
        assert picture.width > 1000
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50


def test_views_follow_the_data() -> None:
    for teacher_name, view in {"cifar": RandomCropFlip(), "imagenet": RandomResizedCropFlip()}.items():
        given = ["--teacher", f"{teacher_name}:untrained:resnet34", "--data", "shapes"]
        if teacher_name == "cifar":
            given[1] = "cifar:untrained:resnet8"
        options = front_arguments.parse(given, "program")
        assert options.case.view == view
        assert options.mixers[FAST].solving_view(view, torch.zeros(2, 3, 8, 8)) == view
        assert isinstance(options.mixers[MIXUP], MixUp)


@pytest.mark.parametrize(
    ("command_line", "message"),
    [
        (["--k", "1"], "expected --k >= 2, got 1"),
        (["--first", "-1"], "expected --first >= 0, got -1"),
        (["--views", "0"], "expected --views >= 1, got 0"),
        (["--rounds", "0"], "expected --rounds >= 1, got 0"),
        (["--sets", "9", "--batch-size", "4"], "got a last one of 1"),
        (["--data", "nowhere"], "expected Parquet shards in --data FOLDER, got nowhere"),
        (["--teacher", "cifar"], "expected --teacher"),
        (["--tried", "sigmo=1"], "expected changes of SuperMix.fast, got 'sigmo=1'"),
        (["--tried", "sigma=-1"], "expected changes of SuperMix.fast, got 'sigma=-1': expected sigma"),
        (["--tried", "max_steps=3"], "which --rounds varies"),
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
