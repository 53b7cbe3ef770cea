"""`supermix-report` from end to end."""

import platform
import warnings
from pathlib import Path
from typing import Any

import pandas
import pytest

from supermix_pl.experiments.reporting import main
from tests.experiments.report.report_folders import write_run

SNAPSHOT = r"""# Pairs and methods of no table

- re-split
- Accuracy on the test images in %. What was measured: mean ± standard deviation (n - 1) over the seeds.
- Best epoch: of each run, then averaged. Agreement, KL: of student and teacher, on the test images.
- \*: above the accuracy of the teacher that was measured.
- plain: the network alone, on the natural images; kd: knowledge distillation on the natural images.

## protocol paper, scale cpu, cifar100, 50 images a class

- Data: cifar100 (Parquet), images_per_class 50.

### Cells with runs

| pair | method | paper | last epoch | best epoch | last - paper | best - paper | seeds | epochs | samples | agreement % | KL, nats |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| a (no teacher) | plain | - | 60.00 | 60.20 | - | - | 1 | 5 | 25000 | - | - |
| b-a | teacher | - | 72.00 | - | - | - | - | - | - | - | - |
|  | kd | - | 71.00 ± 1.41 | 71.20 ± 1.41 | - | - | 2 | 5 | 25000 | - | - |
|  | my_mixup | - | 72.50\* | 72.70\* | - | - | 1 | 5 | 50000 | - | - |

## Not counted

- RUNS/6: no metrics.json: stopped, or still running.
- RUNS/1: the cell, settings and seed 0 of RUNS/5, which is newer and counts.
- Runs of other tables: 1 of table2.
"""  # noqa: E501


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    own: dict[str, Any] = {"pair": None, "table": None, "network_name": "a", "taught_by": "b"}
    write_run(folder / "1", 50.0, written=100, **own)
    write_run(folder / "2", 72.0, seed=1, **own)
    write_run(folder / "3", 60.0, method="plain", **own)
    write_run(folder / "4", 72.5, method="my_mixup", **own)
    write_run(folder / "5", 70.0, **own)
    (write_run(folder / "6", seed=2, **own) / "metrics.json").unlink()
    write_run(folder / "7", 73.0, method="kd_supermix")
    return folder


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(arguments)
    return capsys.readouterr().out


def written(runs: Path, *arguments: str) -> str:
    path = runs.parent / "report.md"
    main([*arguments, "--output", str(path)])
    return path.read_text()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_a_small_report(runs: Path) -> None:
    text = written(runs, "custom", str(runs), "--note", "re-split")
    body, _, foot = text.replace(str(runs), "RUNS").partition("\n## Where this report comes from\n")
    assert body == SNAPSHOT
    assert "python -m supermix_pl.experiments.reporting custom" in foot
    assert f"python {platform.python_version()}" in foot
    assert "The report's own, not the runs'" in foot


def test_paper_and_measured_side_by_side(runs: Path) -> None:
    text = written(runs, "table2", str(runs))
    mixes = "kd_supermix: mixes made in the training, not 500000 before it"
    assert f"Not comparable with the paper's numbers: scale cpu; 50 images a class; {mixes}." in text
    assert "| wrn_40_2-wrn_16_2 | teacher | 75.61 | 72.00 | - | -3.61 | - | - | - | - | - | - |" in text
    assert "|  | kd_supermix | 77.45\\* | 73.00\\* | 73.20\\* | -4.45 | -4.25 | 1 | 5 | 50000 | - | - |" in text
    assert "Runs of other tables: 5 of custom." in text


def test_teachers_that_the_paper_has_no_numbers_of(runs: Path) -> None:
    write_run(runs / "table1", 79.0, method="ce_supermix", table="table1", pair="wrn_40_2-wrn_40_2")
    text = written(runs, "table1", str(runs))
    assert "| WRN-40-2 (a) | teacher | - | 72.00 | - | - | - | - | - | - | - | - |" in text
    assert "|  | ce_supermix | 79.7 | 79.00 | 79.20 | -0.70 | -0.50 | 1 | 5 | 50000 | - | - |" in text


def test_methods_of_the_users_own_have_no_empty_remark(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "1", method="mine", table=None)
    assert "\n- .\n" not in written(tmp_path / "runs", "custom", str(tmp_path / "runs"))


@pytest.mark.parametrize("command", ["table2", "html"])
def test_runs_that_diverged_are_named(command: str, runs: Path) -> None:
    bad = write_run(runs / "8", 1.0, method="kd_supermix", seed=1, metrics={"diverged": 1})
    path = runs.parent / ("report.html" if command == "html" else "report.md")
    main([command, str(runs), "--output", str(path)])
    assert path.read_text().count(" diverged, and counts.") == path.read_text().count(f"{bad} diverged") == 1


@pytest.mark.parametrize(
    ("suffix", "start"),
    [(".md", "# Table 2"), (".csv", "column,mean,")],
)
def test_files_in_the_format_of_their_suffix(
    runs: Path, tmp_path: Path, suffix: str, start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / f"report{suffix}"
    main(["table2", str(runs), "--output", str(path)])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{runs / '6'}: no metrics.json" in captured.err
    assert path.read_text(encoding="utf-8").startswith(start)


def test_the_terminal_is_the_default(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "table2", str(runs))
    assert "77.45*" in text
    assert "no metrics.json: stopped, or still running." in text


def test_csv_reads_back(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, accuracy in ((1, 74.0), (2, 75.0)):
        write_run(runs / f"more{seed}", accuracy, seed=seed, method="kd_supermix")
    write_run(runs / "paper", 76.0, scale="paper", data={"images_per_class": None})
    main(["table2", str(runs), "--output", str(runs / "table.csv")])
    assert f"{runs / '6'}: no metrics.json" in capsys.readouterr().err
    frame = pandas.read_csv(runs / "table.csv")
    assert len(frame) == 2 * 2
    assert set(frame["scale"]) == {"cpu", "paper"}
    place = (frame["column"] == "wrn_40_2-wrn_16_2") & (frame["scale"] == "cpu")
    row = frame[place & (frame["method"] == "kd_supermix")].iloc[0]
    assert (row["paper_value"], bool(row["paper_star"]), bool(row["star"])) == (77.45, True, True)
    assert row[["mean", "std", "best_mean", "difference", "best_difference", "teacher"]].tolist() == pytest.approx(
        [74, 1, 74.2, 74 - 77.45, 74.2 - 77.45, 72]
    )
    assert (row["num_seeds"], row["seeds"], row["epochs"], row["student_samples"]) == (3, "0 1 2", 5, 50_000)
    assert row["folders"].split(";") == [str(runs / name) for name in ("7", "more1", "more2")]
    assert set(frame["comparable"]) == {False}  # of the paper's scale, but with fewer student samples


def test_errors_say_what_there_is(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "got 'tabel2'" in refused(capsys, "tabel2", str(runs))
    error = refused(capsys, "table3", str(runs))
    assert "expected runs of table3, found none; there are: runs of other tables (1 of table2, 5 of custom)" in error
    assert f"{runs / '6'} (no metrics.json" in error
    assert "no such folder as" in refused(capsys, "table2", str(tmp_path / "nothing"))
    assert "expected --output with a suffix of .md" in refused(capsys, "table2", str(runs), "--output", "report.pdf")


def test_nothing_is_warned_of(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert printed(capsys, "table2", str(runs))
        for name in ("table.md", "table.csv"):
            main(["table2", str(runs), "--output", str(runs / name)])
