"""The arguments of Table 4's benchmark, checked before time is spent."""

import argparse
from collections.abc import Sequence

from supermix_pl.experiments.bench import arguments, contenders
from supermix_pl.experiments.bench.set_arguments import check_sets
from supermix_pl.experiments.bench.table4_cases import DATASETS, LITE, PRETRAINED, SHAPES, UNTRAINED, case

_SMOKE_TEACHERS = ("imagenet:untrained:vgg16", "imagenet:untrained:resnet34")
_SMOKE_TEACHERS = (*_SMOKE_TEACHERS, "cifar:untrained:vgg13", "cifar:untrained:wrn_40_2")
_SMOKE = {"teacher": list(_SMOKE_TEACHERS), "data": SHAPES, "solvers": list(contenders.PAPER), "sets": 4}
_SMOKE |= {"tune_sets": 0, "batch_size": 4, "caps": [2], "levels": [0.5], "name": "smoke", "output": "outputs/table4"}


def parse(command_line: Sequence[str] | None, program: str) -> argparse.Namespace:
    """Read the command line; end the program with a message where it makes no sense."""
    parser = _parser(program)
    options = parser.parse_args(command_line)
    if options.smoke:
        parser.set_defaults(**_SMOKE)
        options = parser.parse_args(command_line)
    try:
        if not options.teacher:
            raise ValueError("expected --teacher DATASET:WEIGHTS:NETWORK, got none; --smoke runs without one")
        _check(options)
        options.cases = [
            case(spec, data=options.data, num_images=options.sets + options.tune_sets, k=options.k)
            for spec in options.teacher
        ]
    except ValueError as error:
        parser.error(str(error))
    options.solvers = [name for name in contenders.NAMES if name in {*options.solvers, contenders.REFERENCE}]
    options.caps = sorted(set(options.caps))
    options.name = options.name or "_".join(dict.fromkeys(each.dataset for each in options.cases)) + f"_k{options.k}"
    return options


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description="Table 4: Newton with smooth projection against gradient descent and Newton without.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--smoke", action="store_true", help="the paper's four networks, untrained, on embedded data, in seconds")
    add(
        "--teacher",
        nargs="+",
        metavar="DATASET:WEIGHTS:NETWORK",
        help=f"DATASET: {' or '.join(DATASETS)}; WEIGHTS: a file, {PRETRAINED} (imagenet's {LITE}, vgg16, resnet34) "
        f"or {UNTRAINED}; NETWORK: a name in experiments.networks, without its 'imagenet_'",
    )
    add("--data", help=f"folder of Parquet shards, or {SHAPES!r}, the embedded set; its test images are mixed")
    add("--k", type=int, default=2, help="sources in a set")
    add("--sets", type=int, default=128, help="how many, each of another image, the first of the test images")
    add("--batch-size", type=int, default=64, help="sets that are solved together")
    add("--caps", type=int, nargs="+", default=[10, 50, 100], help="limits on steps; the largest is run")
    add("--levels", type=float, nargs="+", default=[0.25, 0.3, 0.5, 0.75], help="shares of sets solved to compare at")
    add("--solvers", nargs="+", default=list(contenders.NAMES), choices=contenders.NAMES, help="beside newton_sp")
    add("--tune-sets", type=int, default=32, help="sets of the images that follow, for the tuned solvers; 0 for none")
    add("--tune-cap", type=int, default=50, help="limit on steps while tuning")
    add("--rates", type=float, nargs="+", default=list(contenders.RATES), help="learning rates to try")
    add("--weights", type=float, nargs="+", default=list(contenders.ROUGHNESS_WEIGHTS), help="lambda_sigma to try")
    add("--seed", type=int, default=0, help="of the partners and the mixing weights")
    add("--device", default="cpu", help="cpu or cuda")
    add("--threads", type=int, default=1, help="of the CPU")
    add("--name", help="of the files that are written, before the device; data set and k if not given")
    add("--output", default="experiments/results/table4", help="folder of the files that are written")
    return parser


def _check(options: argparse.Namespace) -> None:
    check_sets(options, "sets", "tune_sets")
    arguments.check_least(options, "tune_cap", 1)
    if min(options.caps) < 1:
        raise ValueError(f"expected --caps >= 1, got {min(options.caps)}")
    if not all(0 < level <= 1 for level in options.levels):
        raise ValueError(f"expected --levels in (0, 1], got {options.levels}")
    if min(options.rates) <= 0 or min(options.weights) < 0:
        raise ValueError(f"expected --rates > 0 and --weights >= 0, got {options.rates} and {options.weights}")
    if options.tune_sets == 0 and (left_out := [name for name in options.solvers if name in contenders.TUNED]):
        raise ValueError(f"expected --tune-sets >= {options.k} for {', '.join(left_out)}, got 0; or leave them out")
