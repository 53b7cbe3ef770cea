"""Finished runs of the study of few images become rows, each once, and a run that has its row is not trained again."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from supermix_pl.experiments import few_images, reporting
from supermix_pl.experiments.few_images import COLUMNS, add_rows, compare, has_row, key_of, read
from supermix_pl.experiments.shared.render import markdown

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "experiments" / "results" / "few_images" / "runs.csv"
IN_README = {  # how a row of its table begins, and the arm
    "none, and no teacher": "plain",
    "none: as many": "kd",
    "CutMix": "cutmix",
    "MixUp": "mixup",
    "SuperMix, the stream": "supermix",
    "SuperMix, 20 000 mixes": "supermix_fixed",
    "SuperMix, by the ten lines above": "callback_distils engine.sources=null",
    "SuperMix, by the ten lines and": "callback_distils",
    "SuperMix, likewise": "callback_distils engine.reuse=24 engine.show_from=0",
}
TINY = [
    *("data=shapes", "data.train_size=60", "data.test_size=20", "data.eval_batch_size=10", "network=resnet8"),
    *("protocol.steps=3", "protocol.batch_size={natural: 8, extended: 4}", "num_mixes=8"),
    *("teacher=fitted", "network@teacher.network=resnet8", "teacher.epochs=1", "teacher.progress=false"),
    *("data.images_per_class=3", "trainer.enable_progress_bar=false"),
]


def config(method: str = "kd_natural", images: int | None = 10, seed: int = 1) -> dict[str, Any]:
    return {
        "method": {"name": method, "kind": "natural"},
        "protocol": {"name": "few_images"},
        "data": {"images_per_class": images},
        "network": {"_target_": "a.resnet8"},
        "seed": seed,
    }


def leave(folder: Path, *overrides: str, **changes: Any) -> None:
    """Leave what a training leaves."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("[mixer.k=9]\n")  # of a run that was refused afterwards
    (folder / "config.yaml").write_text(yaml.safe_dump(config(**changes)))
    metrics = {name: 1.5 for name in few_images._MEASURED.values() if name != "supermix/holds"}
    (folder / "metrics.json").write_text(json.dumps(metrics | {"test/accuracy": 0.5}))
    (folder / "origin.json").write_text(
        json.dumps({"commit": "abc1234", "machine": "CPU x, cores 2", "overrides": overrides})
    )


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Measure in no time; the folders that were measured."""
    folders: list[Path] = []
    monkeypatch.setattr(few_images, "open_run", lambda folder: (folders.append(folder), None))
    monkeypatch.setattr(
        few_images, "quality", lambda network, data: {"accuracy": 0.25, "calibration_error": 0.125, "nll": 2.0}
    )
    return folders


def test_places_do_not_tell_rows_apart_and_settings_do() -> None:
    placed = ["experiment=few_images", "method=kd_natural", "seed=1", "data.folder=a", "+paths.data_dir=c", "rows=x"]
    assert key_of(config(), placed) == ("kd", "10", "1", "")
    assert key_of(config(images=None), ["network=wrn_16_2", "mixer.k=3"]) == (
        "kd",
        "all",
        "1",
        "mixer.k=3 network=wrn_16_2",
    )


def test_a_row_a_run_and_none_twice(tmp_path: Path, measured: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    table, runs = tmp_path / "rows.csv", tmp_path / "runs"
    leave(runs / "a", "seed=1", "data.folder=x")
    leave(runs / "b", "mixer.k=3", method="kd_all_mixup")
    reporting.main(["rows", str(table), str(runs)])
    assert capsys.readouterr().out.startswith(f"2 rows added to {table}, which has 2\n10 images a class")
    first = table.read_text()
    assert first.splitlines()[:2] == [
        ",".join(COLUMNS),
        'kd,10,1,,0.25,0.125,2,,1.5,1.5,1.5,1.5,1.5,1.5,abc1234,"CPU x, cores 2"',
    ]
    leave(runs / "c", seed=2)
    assert add_rows(table, [runs]) == (1, [])
    assert table.read_text().startswith(first)
    assert [path.name for path in measured] == ["a", "b", "c"]
    assert has_row(str(table), config(seed=2), ["data.folder=y"])
    assert not has_row(str(table), config(seed=3), [])
    assert not has_row(str(table), config(seed=2), ["mixer.k=3"])


def test_arms_are_compared_seed_by_seed() -> None:
    accuracies = {  # seed 3 has no MixUp, and no arm has another's seeds
        ("mixup", "1"): 0.3, ("mixup", "2"): 0.5, ("cutmix", "1"): 0.2, ("half", "1"): 0.35, ("cutmix", "2"): 0.1,
        ("supermix", "1"): 0.5, ("supermix", "2"): 0.6, ("supermix", "3"): 0.9, ("kd", "3"): 0.25,
    }  # fmt: skip
    rows = pd.DataFrame(
        [
            dict.fromkeys(COLUMNS, "") | {"arm": arm, "images": "10", "seed": seed, "accuracy": str(accuracy)}
            for (arm, seed), accuracy in accuracies.items()
        ]
    )
    (table,) = compare(rows)
    cells = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert list(cells) == ["supermix", "mixup", "half", "kd", "cutmix"]
    assert cells["supermix"]["accuracy %"] == "66.7 ± 51.7 (3)"
    assert cells["supermix"]["minus mixup"] == "+15.0 ± 63.5 (2)"  # .2 and .1
    assert cells["supermix"]["minus cutmix or half, the better"] == "+32.5 ± 222.4 (2)"  # .5 - .35, .6 - .1
    assert cells["supermix"]["minus kd"] == "+65.0"
    assert cells["kd"]["minus mixup"] == cells["mixup"]["minus mixup"] == "-"


def test_arms_with_settings_are_compared_at_equal_settings_or_samples() -> None:
    rows = [
        ("mixup", "", 0.3, "100"), ("kd", "", 0.1, "100"), ("supermix", "", 0.5, "100"),
        ("supermix", "steps=2", 0.7, "200"), ("mixup", "steps=2", 0.6, "200"), ("supermix", "k=3", 0.4, "100"),
    ]  # fmt: skip
    named = ("arm", "settings", "accuracy", "samples")
    given = [
        dict.fromkeys(COLUMNS, "") | {"images": "10", "seed": "1"} | dict(zip(named, row, strict=True)) for row in rows
    ]
    (table,) = compare(pd.DataFrame(given))
    cells = {row[0]: row[5:] for row in table.rows}
    assert cells["supermix"] == ("+20.0", "-", "+40.0", "-")
    assert cells["supermix steps=2"] == ("+10.0", "-", "-", "-")  # no KD saw as many samples
    assert cells["mixup steps=2"] == ("-", "-", "-", "-")
    assert cells["supermix k=3"] == ("+10.0", "-", "+30.0", "-")


def test_the_page_of_the_study_repeats_its_rows() -> None:
    page = RESULTS.with_name("README.md").read_text()
    for line in markdown(compare(read(RESULTS))).splitlines():
        assert line in page, "write the tables of `supermix-report rows` into README.md again"


def test_the_page_of_the_study_repeats_its_corruptions() -> None:
    page, table = RESULTS.with_name("README.md").read_text(), pd.read_csv(RESULTS.with_name("corruptions.csv"))
    runs = pd.read_csv(RESULTS)
    clean = runs.loc[runs["settings"].isna()].set_index(["arm", "images", "seed"])["accuracy"].to_dict()
    families = (
        ["gaussian_noise", "shot_noise", "impulse_noise"],
        ["gaussian_blur"],
        ["brightness", "contrast", "saturation"],
        ["jpeg"],
    )
    kinds = [kind for family in families for kind in family]
    rows: list[dict[str, Any]] = table.to_dict("records")
    assert len(rows) > 0
    for row in rows:
        assert row["accuracy"] == clean[row["arm"], row["images"], row["seed"]]
        means = [sum(row[kind] for kind in family) / len(family) for family in (kinds, *families)]
        assert row["corrupted"] == pytest.approx(means[0], abs=1e-3)
        values = [row["accuracy"], row["corrupted"], *means[1:], row["fgsm"]]
        assert f"| {row['arm']} | {' | '.join(f'{100 * value:.1f}' for value in values)} |" in page


def test_readme_and_guide_repeat_its_rows() -> None:
    cells = {row[0]: row[1:] for row in compare(read(RESULTS))[0].rows}
    readme = (ROOT / "README.md").read_text()
    for start, arm in IN_README.items():
        (line,) = re.findall(rf"^\| \**{re.escape(start)}.*$", readme, flags=re.MULTILINE)
        seeds, accuracy, error, holds = line.replace("*", "").split(" | ")[1:5]
        assert cells[arm][0].startswith(accuracy), line
        assert cells[arm][1].startswith(error), line
        assert [seeds] == (re.findall(r"\((\d)\)", cells[arm][0]) or ["1"]), line
        assert holds == "-" or holds == f"{float(cells[arm][3].split()[0]):.0f} %", line
    means = {arm: round(float(row[0].split()[0])) for arm, row in cells.items()}
    best = [means[arm] for start, arm in IN_README.items() if start.startswith("SuperMix")]
    guide = " ".join((ROOT / "docs" / "index.md").read_text().split())
    assert f"reaches {means['kd']} % with natural images alone ({means['plain']} % without the teacher), " in guide
    assert f"{means['cutmix']} % with CutMix, {means['mixup']} % with MixUp" in guide
    assert f"{min(best)} to {max(best)} % with SuperMix" in guide
    gained = cells["callback_distils"][4].removeprefix("+").partition(" (")[0]
    assert f"gained {gained} points over MixUp" in " ".join((ROOT / "docs" / "choose.md").read_text().split())


def test_rows_that_are_there_stay_as_they_are(tmp_path: Path, measured: list[Path]) -> None:
    table = tmp_path / "rows.csv"
    table.write_bytes(RESULTS.read_bytes())
    leave(tmp_path / "runs", seed=77)
    add_rows(table, [tmp_path / "runs"])
    assert table.read_bytes().startswith(RESULTS.read_bytes())
    assert len(read(table)) == len(read(RESULTS)) + 1


def test_what_is_no_finished_run_of_the_study_is_passed_over(
    tmp_path: Path, measured: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    leave(tmp_path / "a")
    (tmp_path / "a" / "metrics.json").unlink()
    leave(tmp_path / "b")
    (tmp_path / "b" / "config.yaml").write_text(yaml.safe_dump(config() | {"protocol": {"name": "paper"}}))
    reporting.main(["rows", str(tmp_path / "rows.csv"), str(tmp_path)])
    out = capsys.readouterr().out
    assert f"passed over {tmp_path}/a: no metrics.json: stopped, or still running\n" in out
    assert f"passed over {tmp_path}/b: no run of experiment=few_images\n" in out
    assert measured == []


def test_another_table_is_not_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    leave(tmp_path / "run")
    with pytest.raises(SystemExit):
        reporting.main(["rows", str(tmp_path / "rows.csv"), str(tmp_path)])
    assert "expected the columns arm, images, seed," in capsys.readouterr().err


@pytest.mark.slow
def test_the_study_is_a_sweep(tmp_path: Path) -> None:
    arms = ["supermix_fixed", "control", "kd"]
    command = [sys.executable, "-m", "supermix_pl.experiments.train", "-m", "experiment=few_images", "seed=1"]
    command += [*TINY, f"paths.cache_dir={tmp_path}/cache", "rows=rows.csv"]
    command += ["method=" + ",".join(few_images.ARMS[arm] for arm in arms)]
    for finished in (0, 3):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("is finished") == finished
    assert add_rows(tmp_path / "rows.csv", [tmp_path / "multirun"])[0] == 3
    rows = read(tmp_path / "rows.csv").set_index("arm")
    assert set(rows["steps"]) == {"3"}
    assert set(rows["samples"]) == {"24"}
    assert (rows.loc["kd", "teacher_forwards"], rows.loc["kd", "teacher_backwards"]) == ("8", "0")
    assert len(list((tmp_path / "cache" / "mixes").iterdir())) == 1  # the control shares it
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.stdout.count("passed over, as its row is in rows.csv") == 3
