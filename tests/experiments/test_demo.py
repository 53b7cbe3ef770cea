"""`make demo`, with next to nothing to train."""

import contextlib
import io
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from pytorch_lightning.utilities import rank_zero_info

from supermix_pl.experiments import demo

STEPS = 4
TINY = (
    *("data.train_size=40", "data.test_size=40", "data.images_per_class=2", "teacher.epochs=1", "teacher.batch_size=8"),
    *(f"protocol.steps={STEPS}", "protocol.batch_size.natural=8", "protocol.batch_size.extended=4"),
    *("trainer.val_check_interval=0.5", "teacher.network._target_=supermix_pl.experiments.networks.resnet8"),
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("José's demo, k=2")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        demo.main(["--output", str(folder), "--processes", "1", *TINY])
    return folder, printed.getvalue()


def runs_in(folder: Path) -> dict[Any, Any]:
    return pd.read_csv(folder / "students.csv").set_index("student").to_dict("index")


def test_every_student_is_trained_on_as_many_samples(ran: tuple[Path, str]) -> None:
    runs = runs_in(ran[0])
    assert tuple(runs) == tuple(demo.METHODS)
    assert {run["student_samples"] for run in runs.values()} == {8 * STEPS}


def test_only_those_with_a_mixer_hold_something(ran: tuple[Path, str]) -> None:
    assert {name: run["holds"] == run["holds"] for name, run in runs_in(ran[0]).items()} == {
        name: name in ("MixUp + KD", "CutMix + KD", "SuperMix + KD") for name in demo.METHODS
    }


def test_passes_of_the_teacher(ran: tuple[Path, str]) -> None:
    """KD looks at its 8 natural images; MixUp at 4, as many mixes, and once at 20 sources and at a batch of copies."""
    runs = runs_in(ran[0])
    assert runs["KD"]["forwards"] == 8
    assert runs["MixUp + KD"]["forwards"] == 8 + (20 + 4) / STEPS
    assert runs["MixUp + KD"]["backwards"] == 0 < runs["SuperMix + KD"]["backwards"]


def test_table_has_a_row_for_every_student(ran: tuple[Path, str]) -> None:
    """In the 80 columns of a terminal, without an ellipsis."""
    rows = [line for line in ran[1].splitlines() if line.strip().startswith(tuple(demo.METHODS))]
    assert [row.strip().partition("  ")[0] for row in rows] == list(demo.METHODS)
    assert all(len(row) <= 80 and "…" not in row for row in rows)


def test_pictures_are_drawn(ran: tuple[Path, str]) -> None:
    for name in ("mixes.png", "curves.png"):
        with Image.open(ran[0] / name) as picture:
            assert min(picture.size) > 300
        assert name in ran[1].replace("\n", "")


@pytest.mark.slow
def test_students_that_are_trained_are_passed_over(ran: tuple[Path, str]) -> None:
    before = runs_in(ran[0])
    with contextlib.redirect_stdout(io.StringIO()):
        demo.main(["--output", str(ran[0]), "--processes", "1", *TINY])
    assert str(runs_in(ran[0])) == str(before)


@pytest.mark.slow
def test_several_at_a_time_learn_the_same(ran: tuple[Path, str], tmp_path: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        demo.main(["--output", str(tmp_path), "--processes", "2", *TINY])

    def learnt(folder: Path) -> str:
        return str({name: run | {"ms_per_step": None} for name, run in runs_in(folder).items()})

    assert learnt(tmp_path) == learnt(ran[0])


def has_processes(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_a_stopped_demo_leaves_no_process_and_what_it_goes_on_from(tmp_path: Path) -> None:
    """Ctrl-C reaches all processes of a terminal."""
    command = [sys.executable, "-m", "supermix_pl.experiments.demo", "--output", str(tmp_path), "--processes", "2"]
    command += [*TINY, "protocol.steps=3000"]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 200
        while not list(tmp_path.glob("1/*/csv/*/metrics.csv")) and time.monotonic() < deadline:
            time.sleep(0.2)
        os.killpg(running.pid, signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert errors.endswith("stopped; the same command goes on\n")
    assert running.returncode == 130
    deadline = time.monotonic() + 30
    while has_processes(running.pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not has_processes(running.pid)
    assert list(tmp_path.glob("1/*/checkpoints/*.ckpt"))


def test_means_of_the_committed_seeds_stand_beside() -> None:
    row = {"student": "KD", "seed": 1, "accuracy": 0.2, "calibration_error": 0.5, "holds": None, "ms_per_step": 5.0}
    seeds = pd.DataFrame([row | {"accuracy": accuracy} for accuracy in (0.2, 0.3)])
    others = [row | {"student_samples": 8}, row | {"student_samples": 8, "student": "plain"}]
    assert [cells[-1] for cells in demo._table(others, seeds).rows] == ["25.0 % (50.0)", "-"]


@pytest.mark.parametrize(
    ("override", "message"),
    [("mixer=mixup", "chooses mixer"), ("seed=3", "chooses seed"), ("data.trainsize=40", "data.trainsize")],
)
def test_overrides_that_cannot_be(override: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        demo.main([override])
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_processes_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        demo.main(["--processes", "0"])
    assert "expected --processes >= 1, got 0" in capsys.readouterr().err


def test_notes_are_held_back_and_heard_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="pytorch_lightning")
    with demo.quiet_lightning():
        with demo.quiet_lightning():
            rank_zero_info("within both")
        rank_zero_info("within")
    rank_zero_info("after")
    assert [record.getMessage() for record in caplog.records] == ["after"]


def test_readme_has_the_means_of_the_seeds() -> None:
    readme = " ".join((Path(__file__).resolve().parents[2] / "README.md").read_text().split())
    rows = pd.read_csv(demo.SEEDS)
    seeds = {name: [100 * each for each in rows[rows["student"] == name]["accuracy"]] for name in demo.METHODS}
    (told,) = re.findall(r"`make demo` \(20 images a class, resnet8\) gives ([^%]*) %, in the mean of", readme)
    means = dict(re.findall(r"([A-Za-z][A-Za-z+ ]*) ([\d.]+)", told.replace(" and ", ", ")))
    assert means == {name: f"{sum(values) / len(values):.1f}" for name, values in seeds.items()}
    best = rows.loc[rows.groupby("seed")["accuracy"].idxmax(), "student"]
    assert set(best) == {demo.RECOMMENDED}
    assert "SuperMix is first in each" in readme
