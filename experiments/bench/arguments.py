"""The arguments of the solver's benchmark, checked before time is spent."""

import argparse
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from supermix_pl.experiments import networks
from supermix_pl.experiments.bench import acceptance
from supermix_pl.experiments.bench.subject import Subject
from supermix_pl.experiments.data.cifar import Cifar100

PARTS = ("acceptance", "walltime", "memory")
NETWORK, NUM_IMAGES, K = "wrn_16_2", 512, 2
PUBLISHED = f"a trained {NETWORK}, {NUM_IMAGES} test images of CIFAR-100 (re-split) and k={K}"
_SHARED = Path("../shared")
_CHECKPOINT, _DATA = _SHARED / "teachers" / "wrn_16_2_cifar100.pth", _SHARED / "data" / "cifar100"
_MEAN, _STD = Cifar100.statistics
_EVERYTHING = "all"


def parse(arguments: Sequence[str] | None, program: str) -> argparse.Namespace:
    """Read the command line; end the program with a message where it makes no sense."""
    parser = _parser(program)
    options = parser.parse_args(arguments)
    try:
        options.rows = _rows(options.rows)
        check_subject(options)
        _check_numbers(options)
    except ValueError as error:
        parser.error(str(error))
    options.batch_sizes = list(dict.fromkeys(min(size, options.images) for size in options.batch_sizes))
    return options


def subject(options: argparse.Namespace) -> Subject:
    """Say what is measured on."""
    return Subject(
        network=options.network,
        checkpoint=options.checkpoint,
        data=options.data,
        split=options.split,
        num_images=options.images,
        mean=tuple(options.mean),
        std=tuple(options.std),
        size=options.size,
    )


def other_than_published(options: argparse.Namespace) -> list[str]:
    """Name what differs from the setting that the targets were set for."""
    setting = {"network": NETWORK, "checkpoint": str(_CHECKPOINT), "data": str(_DATA), "split": "test"}
    setting |= {"images": NUM_IMAGES, "k": K, "mean": list(_MEAN), "std": list(_STD), "size": None}
    differing = []
    for name, published in setting.items():
        given = getattr(options, name)
        if name in ("checkpoint", "data") and given is not None:
            given, published = Path(given).name, Path(str(published)).name
        if given != published:
            differing.append(f"--{name}")
    return differing


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description="Measure the solver: sets solved and teacher passes, wall time against bare passes, peak memory.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_subject(parser)
    add = parser.add_argument
    add("--batch-sizes", type=int, nargs="+", default=[512, 128], help="acceptance takes the first, the others all")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="wall time and memory take the first")
    add("--rows", nargs="+", default=["default"], help=f"of {', '.join(acceptance.ROWS)}; their first words; or all")
    add("--parts", nargs="+", default=list(PARTS), choices=PARTS, help="what to measure")
    add("--repeats", type=int, default=3, help="of the wall time")
    return parser


def add_subject(parser: argparse.ArgumentParser) -> None:
    """Add what is measured on, where, and where to the results go."""
    add = parser.add_argument
    add("--network", default=NETWORK, help="name in experiments.networks, or module:function giving an nn.Module")
    add("--checkpoint", help=f"the network's weights; {_CHECKPOINT} for {NETWORK} unless the data are shapes")
    add("--data", default=str(_DATA), help="folder of Parquet shards, or 'shapes', the embedded set")
    add("--split", default="test", choices=("train", "test"), help="part of the data")
    add("--size", type=int, help="side to resize images to; the data's own if not given")
    add("--mean", type=float, nargs=3, default=list(_MEAN), help="per channel, what images are normalised with")
    add("--std", type=float, nargs=3, default=list(_STD), help="likewise")
    add("--images", type=int, default=NUM_IMAGES, help="how many, from the first of the split")
    add("--k", type=int, default=K, help="sources in a set")
    add("--device", default="cpu", help="cpu or cuda")
    add("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    add("--output", default="experiments/results", help="folder of the files that are written")


def check_subject(options: argparse.Namespace) -> None:
    """Check what `add_subject` added, and fill in what follows from it.

    Raises:
        ValueError: If it makes no sense, or a file is not there.
    """
    for name, limit in {"k": 1, "images": options.k, "threads": 1}.items():
        check_least(options, name, limit)
    if options.size is not None:
        check_least(options, "size", 1)
    if min(options.std) <= 0:
        raise ValueError(f"expected every --std > 0, got {options.std}")
    _check_device(options)
    _check_files(options)


def networks_by_name() -> list[str]:
    """List the networks that a number of classes is enough to build."""
    return [name for name in networks.__all__ if _takes_classes_alone(getattr(networks, name))]


def check_least(options: argparse.Namespace, name: str, limit: int) -> None:
    """Refuse a number below a limit."""
    if getattr(options, name) < limit:
        raise ValueError(f"expected --{name.replace('_', '-')} >= {limit}, got {getattr(options, name)}")


def check_batches(options: argparse.Namespace, batch_size: int) -> None:
    """Refuse batches, the last one too, that are smaller than a set."""
    rest = options.images % min(batch_size, options.images)
    if 0 < rest < options.k:
        raise ValueError(
            f"expected batches of at least k = {options.k} images, got a last one of {rest}; choose --images and the "
            "first of --batch-sizes so that it has more"
        )


def _takes_classes_alone(network: Any) -> bool:
    try:
        inspect.signature(network).bind(num_classes=2)
    except TypeError:
        return False
    return not inspect.isabstract(network)


def _rows(names: Sequence[str]) -> list[str]:
    chosen: list[str] = []
    for name in names:
        found = [row for row in acceptance.ROWS if name in (row, row.rpartition("-")[0], _EVERYTHING)]
        if not found:
            raise ValueError(
                f"expected --rows among {', '.join(acceptance.ROWS)}, their first words or {_EVERYTHING}, got {name!r}"
            )
        chosen += found
    return list(dict.fromkeys(chosen))


def _check_numbers(options: argparse.Namespace) -> None:
    check_least(options, "repeats", 1)
    if min(options.seeds) < 0:
        raise ValueError(f"expected --seeds >= 0, got {min(options.seeds)}")
    if min(options.batch_sizes) < options.k:
        raise ValueError(f"expected --batch-sizes >= k = {options.k}, got {min(options.batch_sizes)}")
    check_batches(options, options.batch_sizes[0])


def _check_device(options: argparse.Namespace) -> None:
    try:
        device = torch.device(options.device)
    except RuntimeError as error:
        raise ValueError(f"expected --device cpu or cuda, got {options.device!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"expected --device cpu or cuda, got {options.device!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("expected a GPU for --device cuda, got a machine or a build of torch without one; take cpu")


def _check_files(options: argparse.Namespace) -> None:
    known = networks_by_name()
    if ":" not in options.network and options.network not in known:
        raise ValueError(
            f"expected --network to be a name in experiments.networks ({', '.join(known)}) or "
            f"module:function, got {options.network!r}"
        )
    if options.checkpoint is None and options.network == NETWORK and options.data != "shapes":
        options.checkpoint = str(_CHECKPOINT)
    if options.checkpoint is not None and not Path(options.checkpoint).is_file():
        raise ValueError(
            f"expected the teacher's weights at {options.checkpoint}, found no such file; pass --checkpoint FILE, or "
            "--data shapes to run without"
        )
    if options.data != "shapes" and not any(Path(options.data).glob("*.parquet")):
        raise ValueError(
            f"expected Parquet shards in {options.data}, found none; pass --data FOLDER, or --data shapes for the "
            "embedded set"
        )
