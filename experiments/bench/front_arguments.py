"""The arguments of the front's benchmark, checked before time is spent."""

import argparse
from collections.abc import Sequence

from supermix_pl.experiments.bench import arguments
from supermix_pl.experiments.bench.front_settings import NEIGHBOURS, settings
from supermix_pl.experiments.bench.set_arguments import check_sets
from supermix_pl.experiments.bench.table4_cases import DATASETS, LITE, PRETRAINED, SHAPES, UNTRAINED, case


def parse(command_line: Sequence[str] | None, program: str) -> argparse.Namespace:
    """Read the command line; end the program with a message where it makes no sense."""
    parser = _parser(program)
    options = parser.parse_args(command_line)
    try:
        _check(options)
        options.rounds = sorted(set(options.rounds))
        options.case = case(options.teacher, data=options.data, num_images=options.sets, k=options.k)
        options.mixers = settings(options.case.mixer, options.tried, options.rounds[-1])
    except ValueError as error:
        parser.error(str(error))
    options.splits = list(dict.fromkeys(options.splits))
    options.name = options.name or f"{options.case.dataset}_k{options.k}"
    return options


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description="Which mixes hold under views that they were not solved on, and at what cost.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--teacher",
        required=True,
        metavar="DATASET:WEIGHTS:NETWORK",
        help=f"DATASET: {' or '.join(DATASETS)}; WEIGHTS: a file, {PRETRAINED} (imagenet's {LITE}, vgg16, resnet34) "
        f"or {UNTRAINED}; NETWORK: a name in experiments.networks, without its 'imagenet_'",
    )
    add("--data", required=True, help=f"folder of Parquet shards, or {SHAPES!r}, the embedded set")
    add("--splits", nargs="+", default=["train", "test"], choices=("train", "test"), help="parts of the data")
    add("--first", type=int, default=0, help="images of each part to leave out at its start")
    add("--sets", type=int, default=512, help="how many of each part, each of another image")
    add("--batch-size", type=int, default=128, help="sets that are solved together")
    add("--k", type=int, default=2, help="sources in a set")
    add("--rounds", type=int, nargs="+", default=[5, 8, 12, 16, 20], help="after which mixes are looked at")
    add("--views", type=int, default=4, help="fresh ones of each mix")
    add(
        "--tried",
        nargs="*",
        default=list(NEIGHBOURS),
        metavar="CHANGES",
        help="of SuperMix.fast, each a row, such as 'sigma=1.0, lambda_s=30.0'; the paper's solver, SuperMix.fast and "
        "what it was before, MixUp and CutMix always have a row",
    )
    add("--seed", type=int, default=0, help="of partners, mixing weights and views")
    add("--device", default="cpu", help="cpu or cuda")
    add("--threads", type=int, default=1, help="of the CPU")
    add("--name", help="of the files that are written, before the device; data set and k if not given")
    add("--output", default="experiments/results/front", help="folder of the files that are written")
    return parser


def _check(options: argparse.Namespace) -> None:
    check_sets(options, "sets")
    for name, least in {"first": 0, "views": 1}.items():
        arguments.check_least(options, name, least)
    if min(options.rounds) < 1:
        raise ValueError(f"expected --rounds >= 1, got {min(options.rounds)}")
