"""`supermix-report figure4` and the others from the command line."""

import json
import sys
from pathlib import Path

import pytest

from supermix_pl import SuperMix
from supermix_pl.experiments import opening
from supermix_pl.experiments.opening import open_drawn
from supermix_pl.experiments.reporting import main
from tests.experiments.figures.figures_toys import subject

TINY = ["data=shapes", "data.train_size=20", "data.test_size=30", "data.size=16", "teacher=untrained"]
TINY += ["network@teacher.network=resnet8"]


def test_a_subject_is_what_the_overrides_say() -> None:
    found = open_drawn([*TINY, "mixer.k=3", "seed=4"], num_images=100, note="small")
    assert found.images.shape == (30, 3, 16, 16)
    assert sorted(found.labels.tolist()) == sorted(3 * list(range(10)))
    assert isinstance(found.supermix, SuperMix)
    assert (found.supermix.k, found.seed) == (3, 4)
    assert found.title == "shapes (small), teacher resnet8"
    assert found.teacher(found.images[:2]).shape == (2, 10)


def test_a_subject_may_have_several_teachers() -> None:
    several = [
        f"{group}@teacher.teachers.{name}{more}"
        for name in ("first", "second")
        for group, more in (("teacher", "=untrained"), ("network", ".network=resnet8"))
    ]
    found = open_drawn([*TINY[:-2], "teacher=mean", *several], num_images=4)
    assert found.network == "resnet8+resnet8"
    assert found.teacher(found.images[:2]).shape == (2, 10)


def test_the_working_folder_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "José's runs, lr=0.1 (2)"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert opening.composed("bench/base", []).paths.root_dir == str(folder)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([*TINY[:-2], "teacher=ema"], "expected teacher=checkpoint, pretrained, fitted or mean to label mixes"),
        (["data=shapes", "teacher=none"], "expected a teacher for SuperMix"),
        ([*TINY, "mixer=cutmix"], "expected mixer=supermix"),
        ([*TINY, "mixer.sigmo=1"], "Could not override 'mixer.sigmo'"),
        ([*TINY, "mixer.pairing=distinct"], "expected no mixer.pairing, which the figure decides"),
    ],
)
def test_what_makes_no_sense_ends_the_program(
    overrides: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["figure4", *overrides])
    assert end.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figure4", "mixer.k=3"], "expected no mixer.k, which the figure decides: use --k; got mixer.k=3"),
        (["figure4", *TINY, "--k", "1"], "expected k >= 2 and at least one set, got k = 1"),
    ],
)
def test_what_a_figure_decides_itself_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_first_word_chooses(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, code in ((["--help"], 0), ([], 2)):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == code
        assert "supermix-report figure5 FOLDER" in capsys.readouterr().out
    for word in ("table9", "figure2"):
        with pytest.raises(SystemExit):
            main([word, "."])
        assert (
            f"expected one of table1, table2, table3, table5, custom, figure4, figure5, html, rows, got '{word}'"
            in (" ".join(capsys.readouterr().err.split()))
        )
    for module in [name for name in sys.modules if name.startswith("supermix_pl.experiments.figures")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match="matplotlib"):
        main(["figure4"])


def test_a_figure_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["figure4", "--k", "2", "mixer.max_steps=2", "--output", str(tmp_path / "four.png")]
    given = []
    monkeypatch.setattr(opening, "open_drawn", lambda chosen, **_: given.append(chosen) or subject())
    main(arguments)
    assert given == [["mixer.max_steps=2"]]
    written = [tmp_path / f"four.{suffix}" for suffix in ("png", "pdf", "json")]
    assert capsys.readouterr().out == f"written to {', '.join(map(str, written))}\n"
    assert all(path.stat().st_size > 500 for path in written)
    content = json.loads(written[2].read_text())
    assert [row["method"] for row in content["numbers"]] == ["SuperMix", "CutMix", "MixUp"]
    assert "figure4 --k 2 mixer.max_steps=2" in content["origin"]["command"]
