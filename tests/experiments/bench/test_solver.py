"""Named mixers: what the table shows is what they give."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from supermix_pl import SuperMix
from supermix_pl.experiments.bench.solver import main, rows_of
from supermix_pl.experiments.opening import composed, open_subject
from supermix_pl.experiments.shared.measures import saliency_kept, softness
from supermix_pl.experiments.shared.mixers import BLIND, EXACT, FAST, PAIRS, PAPER
from supermix_pl.solver.saliency import input_saliency
from tests.experiments.bench.small import CLASSES, SMALL, settings, written


@pytest.mark.slow
def test_rows_are_what_the_mixers_give(tmp_path: Path) -> None:
    few = [
        "bench.sets=6",
        "bench.batch_size=4",
        "bench.seeds=[0,3]",
        "bench.rounds=[3,1]",
        "bench.changes=[{sigma:2.0}]",
    ]
    main([*SMALL, CLASSES, *few, f"bench.folder={tmp_path}"])
    text, content = written(tmp_path)
    rows = {(row["mixer"], row["rounds"]): row for row in content["rows"]}
    solvers = [PAPER, EXACT, FAST, f"{FAST}, sigma=2.0"]
    assert set(rows) == {
        *((name, rounds) for name in solvers for rounds in (1, 3)),
        *((name, None) for name in (*BLIND, *PAIRS)),
    }
    subject = open_subject(composed("bench/solver", [*SMALL, CLASSES, *few]), num_images=6)
    mixer = SuperMix(max_steps=1, classes="labels", pairing="distinct")
    for seed, found in zip((0, 3), rows[PAPER, 1]["seeds"], strict=True):
        mixes = [
            mixer(subject.teacher, images, labels, seed=(seed, number), view=subject.view)
            for number, (images, labels) in enumerate(subject.batches(4))
        ]
        assert found["sets"] == 6
        assert found["solved"] == sum(int(mix.solved.sum()) for mix in mixes)
        assert found["forwards"] == sum(mix.teacher_forwards - mix.label_forwards for mix in mixes)
        assert found["held"] == sum(int(mix.holds.sum()) for mix in mixes if mix.holds is not None)
        saliency = [input_saliency(subject.teacher, images, labels)[1] for images, labels in subject.batches(4)]
        kept = torch.cat([saliency_kept(mix, each) for mix, each in zip(mixes, saliency, strict=True)])
        assert found["softness_of_all"] == pytest.approx(float(torch.cat([softness(mix) for mix in mixes]).mean()))
        assert found["saliency_kept"] == pytest.approx(float(kept.mean()))
    assert f"| {FAST}, sigma=2.0 | 3 |" in text
    with Image.open(next(tmp_path.glob("*.png"))) as picture:
        assert picture.width > 1000
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50


def test_rows_differ_in_what_their_names_say() -> None:
    _, chosen = settings("solver")
    paper = SuperMix(k=3, alpha=2.0, classes="labels")
    made = {row.name: row.mixer for row in rows_of(paper, chosen.changes, [9])}
    assert list(made)[:5] == [PAPER, EXACT, FAST, *BLIND]
    assert len(set(made.values())) == len(made) == 5 + len(chosen.changes)
    shared: dict[str, Any] = {"k": 3, "alpha": 2.0, "classes": "labels", "max_steps": 9}
    assert made[f"{FAST}, lambda_s=30.0"] == SuperMix.fast(lambda_s=30.0, **shared)
    assert {mixer.max_steps for mixer in made.values() if isinstance(mixer, SuperMix)} == {9}
    assert len(rows_of(paper, [{"sigma": SuperMix.fast().sigma}], [9])) == 5
    assert {row.rounds for row in rows_of(paper, [], [])} == {50, 12, None}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["bench.rounds=[0]"], "expected bench.rounds with numbers >= 1"),
        (["bench.rounds=[3]", "bench.changes=[{max_steps:1}]"], "but max_steps"),
        (["bench.split=all"], "bench.split"),
    ],
)
def test_what_makes_no_sense(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings("solver", *overrides)
