"""The examples are complete programs: each runs by itself, from any folder."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from supermix_pl import MixUp, OneOf, PuzzleMix, ResizeMix, SuperMix, SuperMixCallback
from supermix_pl.solver import SGD
from supermix_pl.transforms import RandomResizedCropFlip
from tests.stand_ins import Network, YourModule

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
TINY = ["--steps", "3", "--per-class", "2"]
ARGUMENTS = {
    "classifier": ["--epochs", "3"],
    "distillation": ["--epochs", "2"],
    "cli": ["fit", "--config", str(EXAMPLES / "cli.yaml")],
    "few_images": [*TINY, "--train-size", "100"],
    "plain_pytorch": ["--epochs", "2"],
}
NEEDS = {"cli": "jsonargparse"}
DATA = "supermix_pl.experiments.data.shapes"  # drawn by the experiments; nothing else of theirs is in the examples
FROM_YAML: dict[str, tuple[dict[str, Any], Any]] = {
    "nothing": ({}, SuperMix.fast()),
    "fast by name": ({"mixer": "supermix_pl.SuperMix.fast"}, SuperMix.fast()),
    "fast": ({"mixer": {"class_path": "supermix_pl.SuperMix.fast", "dict_kwargs": {"k": 3}}}, SuperMix.fast(k=3)),
    "the paper's": ({"mixer": {"class_path": "supermix_pl.SuperMix", "init_args": {"k": 3}}}, SuperMix(k=3)),
    "mixup": ({"mixer": "supermix_pl.MixUp", "engine": "batch"}, MixUp()),
    "one of two": (
        {
            "mixer": {
                "class_path": "supermix_pl.OneOf",
                "init_args": {
                    "mixers": [
                        {"class_path": "supermix_pl.ResizeMix", "init_args": {"scale": [0.2, 0.5]}},
                        {"class_path": "supermix_pl.PuzzleMix", "init_args": {"grids": [4], "xi": None}},
                    ],
                    "weights": [0.7, 0.3],
                },
            }
        },
        OneOf([ResizeMix(scale=(0.2, 0.5)), PuzzleMix(grids=[4], xi=None)], weights=[0.7, 0.3]),
    ),
    "engine": ({"engine": {"class_path": "supermix_pl.BatchEngine"}}, SuperMix.fast()),
    "stream": ({"engine": {"class_path": "supermix_pl.StreamEngine", "init_args": {"reuse": 6}}}, SuperMix.fast()),
    "stream of exact pixels": (
        {"engine": {"class_path": "supermix_pl.StreamEngine", "init_args": {"default_transform": None}}},
        SuperMix.fast(),
    ),
    "update rule": (
        {
            "mixer": {
                "class_path": "supermix_pl.SuperMix",
                "init_args": {
                    "update_rule": {"class_path": "supermix_pl.solver.SGD", "init_args": {"learning_rate": 3.0}}
                },
            }
        },
        SuperMix(update_rule=SGD(learning_rate=3.0)),
    ),
    "no teacher": (
        {
            "teacher": None,
            "mixer": {"class_path": "supermix_pl.MixUp", "init_args": {"num_classes": 3}},
            "targets": "soft",
        },
        MixUp(num_classes=3),
    ),
    "views": (
        {
            "mixed_transform": {
                "class_path": "supermix_pl.transforms.RandomResizedCropFlip",
                "init_args": {"scale": [0.5, 1.0]},
            }
        },
        SuperMix.fast(),
    ),
    "policy": (
        {
            "mixed_transform": {
                "class_path": "supermix_pl.transforms.PerImage",
                "init_args": {
                    "transform": {"class_path": "torchvision.transforms.v2.RandAugment"},
                    "mean": [0.5, 0.5, 0.5],
                    "std": [0.5, 0.5, 0.5],
                },
            }
        },
        SuperMix.fast(),
    ),
    "average": ({"teacher": {"class_path": "supermix_pl.MovingAverage", "init_args": {"decay": 0.9}}}, SuperMix.fast()),
    "network": ({"teacher": {"class_path": "tests.stand_ins.Network"}}, SuperMix.fast()),
    "own function": ({"teacher": {"class_path": "tests.test_examples.teacher_of"}}, SuperMix.fast()),
    "labels": ({"targets": "teacher_soft", "natural_targets": 0.5, "target_temperature": 2.0}, SuperMix.fast()),
    "keys": ({"input_key": "labelled.0", "target_key": 1, "log": "prog_bar"}, SuperMix.fast()),
}


def teacher_of(width: int = 3) -> Network:
    """A function of somebody's that builds a teacher."""
    return Network()


def run(folder: Path, name: str, *arguments: str) -> str:
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "None of the" not in done.stderr  # the teacher knows the images
    assert "no more than chance" not in done.stderr
    return done.stdout


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(ARGUMENTS)


def test_examples_know_nothing_of_our_experiments_but_the_shapes() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert set(re.findall(r"[\w.]*experiments\.[\w.]*", path.read_text())) <= {DATA}


@pytest.mark.slow
@pytest.mark.parametrize("name", ARGUMENTS)
def test_example(tmp_path: Path, name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    assert "supermix/holds" in run(tmp_path, name, *ARGUMENTS[name])


@pytest.mark.slow
def test_the_plain_loop_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    def shown(*arguments: str) -> str:
        return re.sub(
            r"'supermix/(ms|time_share|store_bytes)': [\d.]+,? ?", "", run(tmp_path, "plain_pytorch", *arguments)
        )

    whole = shown("--epochs", "3", "--checkpoint", "whole.pt")
    shown("--epochs", "2")
    assert shown("--epochs", "3") == whole


@pytest.mark.slow
def test_few_images_takes_a_folder(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0)
    for part in ("train", "val"):
        for number in range(8):
            path = tmp_path / "images" / part / f"class_{number % 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.integers(256, size=(40, 48, 3), dtype=np.uint8)).save(path)
    assert "supermix/holds" in run(tmp_path, "few_images", "images", *TINY)


@pytest.mark.slow
def test_saved_config_of_the_cli_trains_again(tmp_path: Path) -> None:
    pytest.importorskip("jsonargparse")
    short = ["--trainer.max_epochs=2", "--trainer.callbacks.start_epoch=1", "--trainer.limit_train_batches=2"]
    run(tmp_path, "cli", *ARGUMENTS["cli"], *short)
    saved = tmp_path / "outputs" / "cli" / "config.yaml"
    (callback,) = yaml.safe_load(saved.read_text())["trainer"]["callbacks"]
    assert (callback["init_args"]["teacher"], callback["init_args"]["start_epoch"]) == ("ema", 1)
    first = saved.rename(tmp_path / "first.yaml").read_text()
    assert "supermix/holds" in run(tmp_path, "cli", "fit", "--config", "first.yaml")
    assert saved.read_text() == first


@pytest.mark.slow  # several seconds each
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FROM_YAML)
def test_callback_comes_from_yaml(name: str) -> None:
    settings, mixer = FROM_YAML[name]
    callback = from_yaml({"teacher": "ema", **settings})
    assert callback.mixer == mixer


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_callback_comes_from_the_command_line() -> None:
    words = [
        "--trainer.callbacks+=supermix_pl.SuperMixCallback",
        "--trainer.callbacks.teacher=ema",
        "--trainer.callbacks.mixer=supermix_pl.SuperMix.fast",
        "--trainer.callbacks.mixer.dict_kwargs.k=3",
    ]
    assert callback_of(words).mixer == SuperMix.fast(k=3)


@pytest.mark.filterwarnings("ignore")
def test_callback_of_the_guide_comes_from_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jsonargparse")
    monkeypatch.chdir(tmp_path)
    Path("first.ckpt").touch()
    page = (ROOT / "docs" / "plug_in.md").read_text()
    text = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0]
    (given,) = yaml.safe_load(text)["trainer"]["callbacks"]
    assert from_yaml(given["init_args"]).mixer == SuperMix.fast(k=3)
    assert given["init_args"]["mixed_transform"]["class_path"].endswith(RandomResizedCropFlip.__name__)


@pytest.mark.filterwarnings("ignore")
def test_several_teachers_and_no_labels_from_yaml() -> None:
    node = {
        "class_path": "supermix_pl.FrozenTeacher",
        "init_args": {"module": {"class_path": "tests.stand_ins.Network"}, "features": "norm"},
    }
    assert from_yaml({"teacher": node, "target_key": None})._rewriter.target_key is None
    several = [{"class_path": "tests.stand_ins.Network"}, {"class_path": "tests.stand_ins.Network"}]
    teacher = from_yaml({"teacher": several}).teacher
    assert teacher is not None
    assert len(teacher.module.teachers) == 2  # pyright: ignore


def from_yaml(settings: dict[str, Any]) -> SuperMixCallback:
    callback = {"class_path": "supermix_pl.SuperMixCallback", "init_args": settings}
    return callback_of({"trainer": {"callbacks": [callback]}})


def callback_of(arguments: Any) -> SuperMixCallback:
    """The callback as LightningCLI builds it; what it would save builds the same once more."""
    pytest.importorskip("jsonargparse")
    from pytorch_lightning.cli import LightningCLI

    def built(given: Any) -> LightningCLI:
        return LightningCLI(YourModule, run=False, args=given, save_config_callback=None)

    cli = built(arguments)
    saved = cli.parser.dump(cli.config, skip_none=False)
    again = built(yaml.safe_load(saved))
    assert again.parser.dump(again.config, skip_none=False) == saved
    callbacks: Any = vars(again.trainer)["callbacks"]
    (callback,) = [each for each in callbacks if isinstance(each, SuperMixCallback)]
    return callback
