"""Which mixes hold, and at what cost: rows, goals, and the command end to end."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.bench.pareto import tables
from supermix_pl.experiments.bench.pareto.__main__ import ParetoSettings, main
from supermix_pl.experiments.bench.pareto.rows import Row, measure_batches, mixers
from supermix_pl.experiments.shared.mixers import BLIND, EXACT, FAST, MIXUP, PAPER
from supermix_pl.experiments.shared.subject import Subject
from tests.experiments.bench.small import CLASSES, SMALL, settings, written
from tests.problems import SmoothTeacher, natural_images

PAPER_MIXER = SuperMix(mask_size=4, pairing="distinct")
ROUNDS = (1, 2, 4)


def measured(name: str) -> Row:
    row = Row(name=name, split="test", mixer=mixers(PAPER_MIXER, [], ROUNDS[-1])[name])
    subject = Subject(
        teacher=FrozenTeacher(SmoothTeacher()),
        images=natural_images(12),
        labels=torch.arange(12) % 6,
        class_names=["a"] * 6,
        mean=None,
        std=None,
        supermix=PAPER_MIXER,
        seed=0,
        data="toys",
        network="smooth",
    )
    subject.teacher(subject.images[:1])  # from now on it knows how many classes there are
    measure_batches([row], subject, batch_size=6, rounds=ROUNDS, views=3)
    return row


def test_numbers_of_a_row_are_means_over_its_batches() -> None:
    row = measured(FAST)
    for rounds in ROUNDS:
        numbers, found = row.numbers(rounds), row.looked[rounds]
        assert numbers["sets"] == 12
        assert (numbers["forwards"], numbers["backwards"]) == (rounds + 1, rounds)
        fresh, holds = torch.cat([each.fresh for each in found]), torch.cat([each.holds for each in found])
        assert numbers["holds"] == pytest.approx(float(holds[fresh].double().mean()))
        assert numbers["holds_of_all_views"] == pytest.approx(float(holds.double().mean()))
    assert row.numbers(ROUNDS[-1])["softness"] < row.numbers(ROUNDS[0])["softness"] < 0.25
    assert measured(MIXUP).numbers(2)["forwards"] == 1


def test_rows_differ_in_what_their_names_say() -> None:
    _, chosen = settings("pareto", ParetoSettings)
    paper = SuperMix(k=3, alpha=2.0, classes="labels")
    made = mixers(paper, chosen.changes, 9)
    assert list(made)[:3] == [PAPER, EXACT, FAST]
    assert tuple(made)[-2:] == BLIND
    assert len(set(made.values())) == len(made) == 5 + len(chosen.changes)
    shared: dict[str, Any] = {"k": 3, "alpha": 2.0, "classes": "labels", "max_steps": 9}
    assert made[f"{FAST}, lambda_s=30.0"] == SuperMix.fast(lambda_s=30.0, **shared)
    assert {mixer.max_steps for mixer in made.values() if isinstance(mixer, SuperMix)} == {9}
    assert len(mixers(paper, [{"sigma": SuperMix.fast().sigma}], 9)) == 5
    with pytest.raises(ValueError, match="but max_steps"):
        mixers(paper, [{"max_steps": 3}], 9)


def test_goals_are_held_against_the_best_mixer_within_the_passes() -> None:
    rows = [measured(name) for name in (PAPER, FAST, MIXUP)]
    goals = ((2.5, 0.0), (5.5, 1.01), (0.5, 0.5))
    found = {(each["goal"].rpartition(" than ")[2], each["mixer"]): each for each in tables.check(rows, goals)}
    one, last = (rows[1].numbers(rounds)["holds"] for rounds in (1, 4))
    assert found["2.5 forwards a mix", FAST]["found"] == f"{100 * one:.1f}"
    assert found["2.5 forwards a mix", FAST]["verdict"] == "met"
    best = max(row.numbers(rounds)["holds"] for row in rows for rounds in ROUNDS)
    assert max(float(each["found"]) for (goal, _), each in found.items() if goal[:3] == "5.5") == round(100 * best, 1)
    assert found["5.5 forwards a mix", FAST]["verdict"] == "missed"
    assert float(found["5.5 forwards a mix", FAST]["found"]) >= round(100 * last, 1)
    nothing = found["0.5 forwards a mix", FAST]
    assert (nothing["found"], nothing["verdict"]) == ("-", "not measured")


def test_end_to_end(tmp_path: Path) -> None:
    few = ["bench.sets=8", "bench.batch_size=4", "bench.rounds=[3,1]", "bench.views=2", "bench.changes=[{sigma:2.0}]"]
    main([*SMALL, CLASSES, *few, "bench.goals=[[13,0.85]]", f"bench.folder={tmp_path}"])
    text, content = written(tmp_path)
    names = [PAPER, EXACT, FAST, f"{FAST}, sigma=2.0", *BLIND]
    rows = content["rows"]
    assert [(row["mixer"], row["split"]) for row in rows] == [(n, s) for s in ("train", "test") for n in names]
    for row in rows:
        assert [numbers["rounds"] for numbers in row["after"]] == [1, 3]
        assert {numbers["sets"] for numbers in row["after"]} == {8}
    fast = [row["after"][1] for row in rows if row["mixer"] == FAST]
    assert {numbers["forwards"] for numbers in fast} == {3}  # classes are the labels: no pass of the natural images
    cell = " / ".join(f"{100 * numbers['holds']:.1f}" for numbers in fast)
    (line,) = [line for line in text.partition("### Passes")[0].splitlines() if line.startswith(f"| {FAST} |")]
    assert line.endswith(f"| {cell} |")
    assert {each["verdict"] for each in content["goals"]} <= {"met", "missed"}
    with Image.open(tmp_path / "shapes_k2_cpu.png") as picture:
        assert picture.width > 1000
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("bench.rounds=[0]", "expected bench.rounds with numbers >= 1"),
        ("bench.views=0", "bench.views"),
        ("bench.splits=[all]", "bench.splits"),
        ("bench.goals=[[1]]", "expected bench.goals of"),
    ],
)
def test_what_makes_no_sense(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings("pareto", ParetoSettings, override)
