"""The arguments of the scaling's benchmark, checked before time is spent."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from supermix_pl.experiments.bench import arguments
from supermix_pl.experiments.bench.scaling_settings import VARIABLES, Point, Setting, vary_main, vary_size
from supermix_pl.experiments.bench.set_arguments import check_device
from supermix_pl.experiments.bench.table4_cases import LITE, PRETRAINED, SHAPES, Case, case

_SHARED = Path("../shared")
_TEACHER = f"cifar:{_SHARED / 'teachers' / 'wrn_16_2_cifar100.pth'}:wrn_16_2"
_SMALL = 32  # side of the images of CIFAR and of the embedded set
_SIZE_TEACHER = f"imagenet:{PRETRAINED}:{LITE}"


def parse(command_line: Sequence[str] | None, program: str) -> argparse.Namespace:
    """Read the command line; end the program with a message where it makes no sense."""
    parser = _parser(program)
    options = parser.parse_args(command_line)
    try:
        _check(options)
        options.points = _points(options)
    except ValueError as error:
        parser.error(str(error))
    return options


def _points(options: argparse.Namespace) -> list[Point]:
    main = _case(options.teacher, options.data, options)
    mixer = replace(main.mixer, max_steps=options.max_steps)
    base = Setting(network=main.network, subject=main.subject, mixer=mixer, batch_size=options.sets, view=main.view)
    points = vary_main(base, options.ks, options.mask_sizes, options.batches)
    points.append(Point(variable="size", value=_SMALL, setting=base))
    points += vary_size(
        _case(options.size_teacher, options.size_data, options), options.sizes, options.size_sets, options.max_steps
    )
    return [point for variable in options.variables for point in points if point.variable == variable]


def _case(spec: str, data: str, options: argparse.Namespace) -> Case:
    found = case(spec, data=data, num_images=options.sets, k=2)
    return replace(found, mixer=replace(found.mixer, classes="teacher"))


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description="Passes, time and memory of the solvers against k, image size, mask size and batch size.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--variables", nargs="+", default=list(VARIABLES), choices=VARIABLES, help="what is varied, one at a time")
    add("--teacher", default=_TEACHER, metavar="DATASET:WEIGHTS:NETWORK", help="as in Table 4's benchmark")
    add("--data", default=str(_SHARED / "data" / "cifar100"), help=f"its images: Parquet shards, or {SHAPES!r}")
    add("--ks", type=int, nargs="+", default=[2, 3, 4, 5, 6], help="sources in a set; 2 where it is not varied")
    add("--mask-sizes", type=int, nargs="+", default=[4, 8, 16, 32], help="sides of the masks")
    add("--batches", type=int, nargs="+", default=[8, 32, 128, 512], help="sets that are solved together")
    add("--sets", type=int, default=32, help="for each point, solved together where the batch is not varied")
    add("--size-teacher", default=_SIZE_TEACHER, metavar="DATASET:WEIGHTS:NETWORK", help="takes images of any size")
    add("--size-data", default=str(_SHARED / "data" / "imagenet_sample"), help=f"its images, or {SHAPES!r}")
    add("--sizes", type=int, nargs="+", default=[64, 96, 128, 160, 224], help="sides of the images")
    add("--size-sets", type=int, default=12, help="for each of these sizes, solved together")
    add("--max-steps", type=int, default=30, help="of a set of the paper's solver")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the mixing weights; each is a repeat of the times")
    add("--device", default="cpu", help="cpu or cuda")
    add("--threads", type=int, default=1, help="of the CPU")
    add("--output", default="experiments/results/scaling", help="folder of the files that are written")
    return parser


def _check(options: argparse.Namespace) -> None:
    for name in ("max_steps", "threads"):
        arguments.check_least(options, name, 1)
    for name in ("ks", "batches", "sizes", "mask_sizes", "seeds"):
        least = {"ks": 2, "batches": 2, "seeds": 0}.get(name, 1)
        if min(getattr(options, name)) < least:
            flag = name.replace("_", "-")
            raise ValueError(f"expected --{flag} >= {least}, got {min(getattr(options, name))}")
    arguments.check_least(options, "sets", max(options.ks))
    arguments.check_least(options, "size_sets", 2)
    for batch in options.batches:
        if 0 < options.sets % batch < 2 and batch < options.sets:
            raise ValueError(f"expected --sets with batches of 2 and more, got {options.sets} in batches of {batch}")
    for data in (options.data, options.size_data):
        if data != SHAPES and not any(Path(data).glob("*.parquet")):
            raise ValueError(f"expected Parquet shards in {data}, found none; {SHAPES} is the embedded set")
    check_device(options)
