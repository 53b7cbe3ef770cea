"""Figure 5: the curves that are in folders of runs."""

import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib.text import Text

from supermix_pl.experiments.figures import ablations
from supermix_pl.experiments.figures.ablations import find_points
from supermix_pl.experiments.shared.runs.folders import find_runs
from tests.experiments.report.report_folders import write_run

OWN: dict[str, Any] = {"method": "ce_supermix", "table": None}


def test_curves_hold_everything_else_equal(tmp_path: Path) -> None:
    for number, (k, seed, accuracy) in enumerate([(2, 0, 70), (2, 1, 72), (3, 0, 68), (4, 0, 65)]):
        write_run(tmp_path / str(number), accuracy, k=k, seed=seed, **OWN)
    write_run(tmp_path / "old", 50, k=2, written=10, **OWN)
    write_run(tmp_path / "epochs", 90, k=3, epochs=7, **OWN)  # differs in more than k
    found = find_points(find_runs([tmp_path])[0])
    names = ["parameter", "dataset", "method", "curve"]
    assert found[names].drop_duplicates().values.tolist() == [["k", "cifar100", "ce_supermix", "ce_supermix"]]
    points = found.set_index("value")
    assert points["accuracies"].to_dict() == {2: (70, 72), 3: (68,), 4: (65,)}
    assert points["count"].to_dict() == {2: 2, 3: 1, 4: 1}
    assert points.loc[2, "mean"] == 71
    assert points.loc[2, "deviation"] == pytest.approx(2**0.5)
    assert math.isnan(points.loc[3, "deviation"])
    assert find_points(find_runs([tmp_path])[0], best=True).set_index("value").loc[3, "mean"] == pytest.approx(68.2)


def test_the_size_of_fixed_mixes_and_curves_that_differ_in_budget(tmp_path: Path) -> None:
    for epochs in (5, 6):
        for size in (1000, 2000):
            settings: dict[str, Any] = OWN | {
                "mixes": {"_target_": "supermix_pl.experiments.mixes.Fixed", "size": size}
            }
            write_run(tmp_path / f"{epochs}-{size}", 70.0, epochs=epochs, **settings)
    found = find_points(find_runs([tmp_path])[0])
    assert found[["parameter", "curve", "value"]].values.tolist() == [
        ["size", f"ce_supermix, trainer.max_epochs={epochs}", size] for epochs in (5, 6) for size in (1000, 2000)
    ]


def test_curves_under_different_teachers_are_kept_apart(tmp_path: Path) -> None:
    for accuracy in (0.72, 0.75):
        for k in (2, 3):
            write_run(tmp_path / f"{accuracy}-{k}", 70.0, k=k, metrics={"teacher/accuracy": accuracy}, **OWN)
    found = find_points(find_runs([tmp_path])[0])
    assert found["curve"].unique().tolist() == [f"ce_supermix, teacher/accuracy={each}" for each in ("72.0", "75.0")]


def test_claims_of_the_paper_are_marked(tmp_path: Path) -> None:
    for weight in (0, 10, 30, 40):
        write_run(tmp_path / f"weight{weight}", 70.0, mixer={"lambda_s": weight}, **OWN)
    for alpha in (0.1, 0.3):
        write_run(tmp_path / f"alpha{alpha}", 70.0, mixer={"alpha": alpha}, **OWN)
    found = ablations.draw([tmp_path], best=True)
    words = [text.get_text() for text in found.figure.findobj(Text) if isinstance(text, Text)]
    assert any(" ".join(word.split()).startswith("Accuracy on the validation images, best epoch") for word in words)
    assert "paper, 5e: best at about 30" in words
    assert "paper, 5d: chooses 3 (beyond these runs)" in words
    assert {row["parameter"] for row in found.numbers} == {"alpha", "lambda_s"}
    assert ablations.claim("k", "imagenet") == (3, "paper, 5c: best at 3 on ImageNet")
    assert ablations.claim("sigma", "cifar100") is None


def test_runs_without_a_sweep_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "one", 70.0, **OWN)
    with pytest.raises(ValueError, match=r"differ in one of size, k, alpha.*got 1 runs.*experiment=ablation_k"):
        ablations.draw([tmp_path])
