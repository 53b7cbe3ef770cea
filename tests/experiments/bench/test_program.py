"""What all benchmarks share: configs, one line for what makes no sense, files."""

import platform
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from supermix_pl.experiments.bench.program import check_sets
from supermix_pl.experiments.bench.solver import main
from tests.experiments.bench.small import CLASSES, SMALL, settings, written

KINDS = ("gpu", "solver", "step", "table4")
CONF = Path(__file__).resolve().parents[3] / "conf" / "bench"


def test_every_config_has_its_benchmark() -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} == {*KINDS, "base"}


@pytest.mark.parametrize("name", KINDS)
def test_every_config_is_read(name: str) -> None:
    config, found = settings(name)
    assert found.name is None
    assert not OmegaConf.missing_keys(config)
    OmegaConf.resolve(config)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["bench.sets=many"], "expected bench.sets as an integer, got 'many'"),
        (["bench.set=3"], "Could not override 'bench.set'"),
        (["+bench.depth=3"], "unexpected keyword argument 'depth'"),
        (["bench.threads=0"], "expected bench.threads to be an integer >= 1, got 0"),
        (["bench.seeds=[]"], "expected bench.seeds with numbers >= 0, got []"),
        (["bench.sets=9", "bench.batch_size=4"], "expected batches of at least k = 2 sets, got a last one of 1"),
        (["mixer.k=0"], "expected k"),
        (["mixer=cutmix"], "expected mixer=supermix"),
        (["teacher=none"], "expected a teacher for SuperMix"),
        (["teacher=checkpoint", "teacher.checkpoint=none.pth"], "none.pth"),
        (["data.folder=nowhere"], "Could not override 'data.folder'"),
        (["network@teacher.network=resnet9"], "resnet9"),
        (["bench.changes=[{sigmo:1}]"], "sigmo"),
        (["bench.sets=36"], "expected 36 test images, got 32: ask for fewer"),
    ],
)
def test_what_makes_no_sense_ends_in_a_line(
    overrides: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [*SMALL, "bench.sets=4", "bench.batch_size=4", f"bench.folder={tmp_path}"]
    with pytest.raises(SystemExit) as stop:
        main([*small, *overrides])
    assert isinstance(stop.value.code, str)
    assert stop.value.code.startswith("solver: error: ")
    assert "\n" not in stop.value.code
    assert message in stop.value.code
    assert not list(tmp_path.iterdir())


def test_help_is_the_config(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code is None
    assert capsys.readouterr().out.strip() == (CONF / "solver.yaml").read_text().strip()


def test_batches_are_no_smaller_than_a_set() -> None:
    check_sets(10, 4, 2)
    with pytest.raises(ValueError, match="a last one of 2"):
        check_sets(10, 4, 3)
    with pytest.raises(ValueError, match=r"expected bench\.batch_size"):
        check_sets(10, 2, 3)


def test_files_say_where_the_numbers_come_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = [*SMALL, CLASSES, "bench.sets=4", "bench.batch_size=4", "bench.seeds=[7]", "bench.changes=[]"]
    main([*few, "mixer.max_steps=1", f"bench.folder={tmp_path}", "bench.name=mine"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine_cpu.json", "mine_cpu.md", "mine_cpu.png"]
    text, content = written(tmp_path)
    origin = content["provenance"]
    assert origin["command"].startswith("python -m supermix_pl.experiments.bench.solver data.size=16 ")
    assert origin["seeds"] == [7]
    assert origin["versions"]["torch"] == torch.__version__
    assert origin["machine"]["threads"] == 1
    assert content["settings"]["sets"] == 4
    for secret in (str(tmp_path.parent), str(Path.home()), platform.node()):
        assert secret not in text
    assert "What mixers solve" in capsys.readouterr().out
    assert [row["mixer"] for row in content["rows"]] == [
        "SuperMix",
        "exact",
        "SuperMix.fast",
        "MixUp",
        "CutMix",
        "FMix",
        "ResizeMix",
        "SaliencyMix",
        "PuzzleMix",
    ]
