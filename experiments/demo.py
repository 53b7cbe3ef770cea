"""`make demo`: one student, five ways, on the embedded data; a table and a picture."""

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from supermix_pl import CutMix, FrozenTeacher, MixUp, SuperMix
from supermix_pl.experiments.building import build_data, build_teacher
from supermix_pl.experiments.figures.mixes import draw_mixes
from supermix_pl.experiments.quiet import quiet_lightning
from supermix_pl.experiments.record import write_metrics
from supermix_pl.experiments.train import train

_FAST = "SuperMix.fast"
_METHODS = {
    "plain": ("mixer=none",),
    "MixUp": ("mixer=mixup",),
    "CutMix": ("mixer=cutmix",),
    _FAST: ("mixer=supermix_fast", "mixer.max_steps=8"),
    f"{_FAST}, stream": ("mixer=supermix_fast", "engine=stream"),
}
_CHOSEN = ("experiment", "mixer", "engine")
_ROWS_SHOWN = 6


def main(arguments: Sequence[str] | None = None) -> None:
    """Train a teacher, then the same student plain, with MixUp, CutMix and SuperMix.fast, and that by the stream."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder of table, picture and runs")
    parser.add_argument(
        "overrides", nargs="*", help="Hydra overrides of experiment=demo for all students, such as seed=1 or mixer.k=3"
    )
    options = parser.parse_args(arguments)
    console = Console()
    start = time.perf_counter()
    with quiet_lightning(), initialize_config_module("supermix_pl.conf", version_base="1.3"):
        config = _checked(options, parser)
        if config.trainer.max_epochs <= config.mixing.start_epoch:
            parser.error(
                "expected trainer.max_epochs above mixing.start_epoch, the first epoch with mixes, got "
                f"{config.trainer.max_epochs} and {config.mixing.start_epoch}: change both"
            )
        results = {name: _train(name, options.output, options.overrides, console) for name in _METHODS}
        picture = _draw(options.output, options.overrides)
    console.print(_table(results))
    console.print(
        "solved: mixes whose likeliest classes, to the teacher, are those of their sources; passes: the teacher's "
        "forwards + input gradients a mix; step: with mixes, the mixing included. The stream spreads the solving over "
        "steps and uses each mix several times; the others mix every batch anew"
    )
    metrics = write_metrics(options.output, {"seconds": time.perf_counter() - start, "runs": results})
    console.print(f"{time.perf_counter() - start:.0f} s; figures in {metrics}, picture in {picture}")


def _checked(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Any:
    """Compose every student's config before time is spent; give the one of SuperMix.fast."""
    for override in options.overrides:
        name = override.lstrip("+~").partition("=")[0]
        if name in _CHOSEN:
            parser.error(f"expected overrides that all students share, got {override}: the demo itself chooses {name}")
    try:
        return {method: _compose(method, options.output, options.overrides) for method in _METHODS}[_FAST]
    except (HydraException, OmegaConfBaseException) as error:
        parser.error(f"expected overrides that all students share: {error}")


def _compose(method: str, output: Path, overrides: Sequence[str]) -> Any:
    folder = output.resolve()
    own = [
        "experiment=demo",
        *_METHODS[method],
        f"paths.root_dir={folder}",
        f"paths.output_dir={folder / method.lower().replace(', ', '_')}",
        f"paths.cache_dir={folder}",
    ]
    if method == "plain":
        overrides = [override for override in overrides if not override.lstrip("+~").startswith("mixer.")]
    config = compose("train", [*own, *overrides])
    if method == "plain":  # as many student samples as with mixes, which double the batches of the last epochs
        config.trainer.max_epochs += config.trainer.max_epochs - config.mixing.start_epoch
    return config


def _train(method: str, output: Path, overrides: Sequence[str], console: Console) -> dict[str, Any]:
    console.rule(f"{method} student" if method != "plain" else "teacher, then plain student")
    config = _compose(method, output, overrides)
    torch.set_float32_matmul_precision(config.matmul_precision)
    return train(config)


def _draw(output: Path, overrides: Sequence[str]) -> Path:
    """Mix the same pairs of test images with the three methods."""
    config = _compose(_FAST, output, overrides)
    datamodule = build_data(config)
    teacher = build_teacher(config, datamodule)
    assert isinstance(teacher, FrozenTeacher)
    supermix: SuperMix = instantiate(config.mixer)
    images, _ = next(iter(datamodule.test_dataloader()))
    images = images[:64]
    mixers = {
        _FAST: dataclasses.replace(supermix, k=2, pairing="shift", max_steps=50),
        "MixUp": MixUp(alpha=supermix.alpha),
        "CutMix": CutMix(alpha=supermix.alpha),
    }
    mixes = {name: mixer(teacher, images, seed=config.seed) for name, mixer in mixers.items()}
    classes = mixes[_FAST].source_classes
    different = (classes[:, 0] != classes[:, 1]).nonzero().squeeze(1)[:_ROWS_SHOWN].tolist()
    return draw_mixes(
        images,
        mixes,
        datamodule.class_names,
        output / "mixes.png",
        sets=different,
        mean=datamodule.mean,
        std=datamodule.std,
    )


def _table(results: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="shapes: the same student, seed and number of student samples")
    table.add_column("student", no_wrap=True)
    for column in ("accuracy", "solved", "passes", "step", "x plain"):
        table.add_column(column, justify="right", no_wrap=True)
    plain = results["plain"]["ms_per_step"]
    for name, result in results.items():
        forwards = result.get("supermix/teacher_forwards_per_mix")
        mixed = forwards is not None
        table.add_row(
            name,
            f"{100 * result['test/accuracy']:.1f} %",
            f"{100 * result['supermix/solved_fraction']:.0f} %" if mixed else "-",
            f"{forwards:.1f} + {result['supermix/teacher_backwards_per_mix']:.1f}" if mixed else "-",
            f"{result['ms_per_step']:.0f} ms",
            f"{result['ms_per_step'] / plain:.2f}",
        )
    return table


if __name__ == "__main__":
    main()
