"""The arguments of the GPU's benchmark, checked before time is spent."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from supermix_pl.experiments.bench import arguments
from supermix_pl.experiments.bench.gpu_numbers import Effort
from supermix_pl.experiments.bench.gpu_subjects import NETWORKS, Opened, open_network, subject_of
from supermix_pl.experiments.bench.table4_cases import DATASETS

PARTS, PASSES = ("checks", "steps"), ("eager", "compiled")
_CHECKED = "resnet8"
_MEASURED = [name for name in NETWORKS if name != _CHECKED]
_SMOKE = {"networks": [_CHECKED], "batch_sizes": [4], "side": 32, "output": "outputs/gpu"}
_SMOKE_EFFORT = Effort(blocks=1, steps=1)


def parse(command_line: Sequence[str] | None, program: str) -> argparse.Namespace:
    """Read the command line; end the program with a message where it makes no sense."""
    parser = _parser(program)
    options = parser.parse_args(command_line)
    if options.smoke:
        parser.set_defaults(**_SMOKE)
        options = parser.parse_args(command_line)
    try:
        _check(options)
        options.checkpoints = _named(options.checkpoint, NETWORKS, "--checkpoint")
        options.folders = _named(options.data, DATASETS, "--data")
    except ValueError as error:
        parser.error(str(error))
    options.effort = _SMOKE_EFFORT if options.smoke else Effort()
    return options


def open_for(options: argparse.Namespace, name: str = _CHECKED) -> Opened:
    """Open one of the networks; without its name, what the checks are made with."""
    subject = subject_of(name, options.checkpoints, options.folders, max(options.batch_sizes))
    return open_network(name, subject, torch.device(options.device), options.side)


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description="Check the solver and the engines on a GPU and time training steps, in under 6 minutes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda", help="where")
    add("--smoke", action="store_true", help="tiny settings, to see that all of it runs")
    add("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="what to do")
    add("--networks", nargs="+", default=_MEASURED, choices=list(NETWORKS), help="teachers; students follow from them")
    add("--passes", nargs="+", default=list(PASSES), choices=PASSES, help="of the teacher")
    add("--checkpoint", nargs="+", default=[], metavar="NETWORK=FILE", help="trained weights; the others have none")
    add(
        "--data", nargs="+", default=[], metavar="DATASET=FOLDER", help="Parquet shards of cifar, imagenet; or embedded"
    )
    add("--batch-sizes", type=int, nargs="+", default=[128, 64], help="natural images in a step, and as many mixes")
    add("--side", type=int, default=224, help="of large images of the embedded set")
    add("--minutes", type=float, default=4.5, help="after which nothing else is begun")
    add("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    add("--output", default="experiments/results/gpu", help="folder of the files that are written")
    return parser


def _check(options: argparse.Namespace) -> None:
    for name, least in {"side": 32, "threads": 1}.items():
        arguments.check_least(options, name, least)
    if min(options.batch_sizes) < 2:
        raise ValueError(f"expected --batch-sizes >= 2, got {min(options.batch_sizes)}")
    if options.minutes <= 0:
        raise ValueError(f"expected --minutes > 0, got {options.minutes}")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "expected a GPU, got a machine or a build of torch without one; --device cpu --smoke needs none"
        )


def _named(given: Sequence[str], names: Sequence[str] | dict, flag: str) -> dict[str, str]:
    """Read NAME=PATH."""
    found = {}
    for each in given:
        name, _, path = each.partition("=")
        if name not in names or not Path(path).exists() or not path:
            raise ValueError(f"expected {flag} NAME=PATH with a name of {', '.join(names)} and a path, got {each!r}")
        found[name] = path
    return found
