"""`supermix-report figure4` and the others from the command line."""

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from supermix_pl import SuperMix
from supermix_pl.experiments.opening import open_drawn
from supermix_pl.experiments.reporting import main

TINY = ["data=shapes", "data.train_size=20", "data.test_size=30", "data.size=16", "teacher=untrained"]
TINY += ["network@teacher.network=resnet8"]


def test_a_subject_is_what_the_overrides_say() -> None:
    subject = open_drawn([*TINY, "mixer.k=3", "seed=4"], num_images=100, note="small")
    assert subject.images.shape == (30, 3, 16, 16)
    assert sorted(subject.labels.tolist()) == sorted(3 * list(range(10)))
    assert isinstance(subject.supermix, SuperMix)
    assert (subject.supermix.k, subject.seed) == (3, 4)
    assert subject.title == "shapes (small), teacher resnet8"
    assert subject.teacher(subject.images[:2]).shape == (2, 10)


def test_external_images_are_normalised_as_the_data_are(tmp_path: Path) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    for name, colour in {"a": (255, 0, 51), "b": (0, 102, 255)}.items():
        Image.new("RGB", (20, 18), colour).save(folder / f"{name}.png")
    own = ["mixes=external", f"mixes.folder={folder}", f"paths.cache_dir={tmp_path}"]
    subject = open_drawn([*TINY, *own], num_images=100)
    assert subject.external is not None
    assert subject.mean is not None
    assert subject.std is not None
    colours = torch.tensor([[1.0, 0.0, 0.2], [0.0, 0.4, 1.0]])
    expected = (colours - torch.tensor(subject.mean)) / torch.tensor(subject.std)
    torch.testing.assert_close(subject.external, expected[:, :, None, None].expand(2, 3, 16, 16))
    one = open_drawn([*TINY, *own], num_images=1).external
    assert one is not None
    assert len(one) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
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
        main(["figure7", *overrides])
    assert end.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figure3", "+mixer.sigma=2"], "expected no mixer.sigma, which the figure decides: use --sigma; got +mixer"),
        (["figure3", "mixer.lambda_s=5"], "expected no mixer.lambda_s, which the figure decides: use --lambda-s"),
        (["figure4", "mixer.k=3"], "expected no mixer.k, which the figure decides: use --k; got mixer.k=3"),
        (["figure6", *TINY, "--per-class=-1"], "expected --per-class to be an integer >= 1, got -1"),
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
    with pytest.raises(SystemExit):
        main(["table9", "."])
    assert "expected a table of table1" in capsys.readouterr().err
    for module in [name for name in sys.modules if name.startswith("supermix_pl.experiments.figures")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr("supermix_pl.experiments.figures.command", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match=r'figure7 needs matplotlib: pip install "supermix_pl\[experiments\]"'):
        main(["figure7"])


def test_a_figure_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["figure7", "--images", "12", *TINY, "mixer.max_steps=2", "--output", str(tmp_path / "seven.png")])
    written = [tmp_path / f"seven.{suffix}" for suffix in ("png", "pdf", "json")]
    assert capsys.readouterr().out == f"written to {', '.join(map(str, written))}\n"
    assert all(path.stat().st_size > 500 for path in written)
    content = json.loads(written[2].read_text())
    assert [row["method"] for row in content["numbers"]] == ["natural", "SuperMix", "CutMix", "MixUp"]
    assert "figure7 --images 12 data=shapes" in content["origin"]["command"]
