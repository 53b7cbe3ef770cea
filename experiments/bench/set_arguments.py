"""Checks of the arguments that say which sets are solved, shared by the benchmarks that take them."""

import argparse
from pathlib import Path

import torch

from supermix_pl.experiments.bench import arguments
from supermix_pl.experiments.bench.table4_cases import SHAPES


def check_sets(options: argparse.Namespace, *counts: str) -> None:
    """Check k, batches, data, device and the like.

    Args:
        options: With `sets` and the rest.
        counts: Names of the options that are numbers of sets, each solved in batches.

    Raises:
        ValueError: If they make no sense.
    """
    least = {"k": 2, "sets": options.k, "batch_size": options.k, "threads": 1, "seed": 0}
    for name, limit in least.items():
        arguments.check_least(options, name, limit)
    for name in counts:
        rest = getattr(options, name) % options.batch_size
        if 0 < rest < options.k:
            raise ValueError(
                f"expected batches of at least k = {options.k} sets, got a last one of {rest}; choose "
                f"--{name.replace('_', '-')} and --batch-size so that it has more"
            )
    if options.data is None or (options.data != SHAPES and not any(Path(options.data).glob("*.parquet"))):
        raise ValueError(f"expected Parquet shards in --data FOLDER, got {options.data}; {SHAPES} is the embedded set")
    check_device(options)


def check_device(options: argparse.Namespace) -> None:
    """Refuse a device that is not there."""
    if options.device not in ("cpu", "cuda") or (options.device == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f"expected --device cpu, or cuda where there is a GPU, got {options.device!r}")
