"""`make demo`, with next to nothing to train."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from supermix_pl.experiments import demo

TINY = (
    *("data.train_size=40", "data.test_size=40", "data.batch_size=8", "teacher.epochs=1", "teacher.batch_size=8"),
    *("trainer.max_epochs=3", "mixing.start_epoch=2", "mixer.k=3"),
)
STUDENTS = ("plain", "MixUp", "CutMix", "SuperMix.fast", "SuperMix.fast, stream")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        demo.main(["--output", str(folder), *TINY])
    return folder, printed.getvalue()


def test_every_student_is_trained_on_as_many_samples(ran: tuple[Path, str]) -> None:
    runs = json.loads((ran[0] / "metrics.json").read_text())["runs"]
    assert tuple(runs) == STUDENTS
    assert {run["student_samples"] for run in runs.values()} == {40 * 2 + 2 * 40}


def test_only_those_with_a_mixer_mix(ran: tuple[Path, str]) -> None:
    runs = json.loads((ran[0] / "metrics.json").read_text())["runs"]
    mixes = {name: run.get("supermix/mixes") for name, run in runs.items()}
    assert mixes == {name: None if name == "plain" else 40 for name in STUDENTS}


def test_table_has_a_row_for_every_student(ran: tuple[Path, str]) -> None:
    """In the 80 columns of a terminal, without an ellipsis."""
    rows = [line for line in ran[1].splitlines() if line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows] == list(STUDENTS)


def test_picture_is_drawn(ran: tuple[Path, str]) -> None:
    with Image.open(ran[0] / "mixes.png") as picture:
        assert min(picture.size) > 300
    assert "mixes.png" in ran[1]


def test_one_student_learns_by_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[Any] = []
    result = {"ms_per_step": 1.0, "test/accuracy": 0.5}
    monkeypatch.setattr(demo, "train", lambda config: configs.append(config) or result)
    monkeypatch.setattr(demo, "_draw", lambda *_: tmp_path)
    demo.main(["--output", str(tmp_path)])
    assert [config.engine._target_.rpartition(".")[2] for config in configs] == [*4 * ["BatchEngine"], "StreamEngine"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["mixer=supermix"], "got mixer=supermix: the demo itself chooses mixer"),
        (["engine=batch"], "got engine=batch: the demo itself chooses engine"),
        (["experiment=study"], "the demo itself chooses experiment"),
        (["mixer.max_steps=20"], "expected overrides that all students share: Could not override 'mixer.max_steps'"),
        (["engine.reuse=4"], "expected overrides that all students share: Could not override 'engine.reuse'"),
        (["foo=1"], "expected overrides that all students share: Could not override 'foo'"),
    ],
)
def test_overrides_are_of_all_students(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as end:
        demo.main(["--output", str(tmp_path), *overrides])
    assert end.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_first_epoch_with_mixes_must_come(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        demo.main(["--output", str(tmp_path), "trainer.max_epochs=3", "mixing.start_epoch=3"])
    assert "expected trainer.max_epochs above mixing.start_epoch" in capsys.readouterr().err
