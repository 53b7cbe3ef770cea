"""Named mixers: what the table shows is what they give."""

from pathlib import Path

import pytest

from supermix_pl import SuperMix
from supermix_pl.experiments.bench.solver.__main__ import main, overhead
from supermix_pl.experiments.opening import composed, open_subject
from tests.experiments.bench.small import CLASSES, SMALL, written


def test_rows_are_what_the_mixers_give(tmp_path: Path, unchecked: None) -> None:
    few = [
        "bench.sets=6",
        "bench.batch_size=4",
        "bench.seeds=[0,3]",
        "bench.changes=[{max_steps:1}]",
        "mixer.max_steps=3",
    ]
    main([*SMALL, CLASSES, *few, f"bench.folder={tmp_path}"])
    text, content = written(tmp_path)
    rows = {row["mixer"]: row for row in content["rows"]}
    assert list(rows) == ["SuperMix", "exact", "SuperMix.fast", "MixUp", "CutMix", "SuperMix, max_steps=1"]
    subject = open_subject(composed("bench/solver", [*SMALL, CLASSES, *few]), num_images=6)
    mixer = SuperMix(max_steps=1, classes="labels", pairing="distinct")
    for seed, found in zip((0, 3), rows["SuperMix, max_steps=1"]["seeds"], strict=True):
        mixes = [
            mixer(subject.teacher, images, labels, seed=(seed, number), view=subject.view)
            for number, (images, labels) in enumerate(subject.batches(4))
        ]
        assert found["sets"] == 6
        assert found["solved"] == sum(int(mix.solved.sum()) for mix in mixes)
        assert found["forwards"] == sum(mix.teacher_forwards - mix.label_forwards for mix in mixes)
        assert found["held"] == sum(int(mix.holds.sum()) for mix in mixes if mix.holds is not None)
    assert len(rows["SuperMix.fast"]["overheads"]) == 2
    assert rows["MixUp"]["overheads"] == []
    assert "| SuperMix, max_steps=1 |" in text


def test_a_solver_that_miscounts_is_noticed(monkeypatch: pytest.MonkeyPatch, unchecked: None) -> None:
    subject = open_subject(composed("bench/solver", [*SMALL, CLASSES]), num_images=4)
    (batch,) = subject.batches(4)
    mixer = SuperMix(max_steps=2, classes="labels")
    assert overhead(mixer, subject, batch, seed=0) > 0
    call = SuperMix.__call__

    def miscounting(*arguments: object, **options: object) -> object:
        mix = call(*arguments, **options)  # pyright: ignore[reportArgumentType]
        mix.teacher_forwards += 1
        return mix

    monkeypatch.setattr(SuperMix, "__call__", miscounting)
    with pytest.raises(RuntimeError, match="passes, got"):
        overhead(mixer, subject, batch, seed=0)
