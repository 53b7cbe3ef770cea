"""Measures trained students beyond their accuracy: calibration, FGSM, common corruptions; for folders of runs.

    python -m supermix_pl.experiments.evaluate multirun

leaves evaluation.json beside each metrics.json; runs that have been measured so before are passed over.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from supermix_pl.checkpoint import load_checkpoint
from supermix_pl.experiments.building import build_data
from supermix_pl.experiments.data import ImageDataModule
from supermix_pl.experiments.evaluation import Robustness
from supermix_pl.experiments.shared.files import write_whole
from supermix_pl.experiments.shared.runs.folders import EVALUATION, find_runs, read_evaluation, training_id


def evaluate(folder: Path, settings: Robustness) -> Path:
    """Measure the network of a finished run, unless that has been done; return the path of evaluation.json."""
    path = folder / EVALUATION
    earlier = read_evaluation(folder)
    if earlier is not None and earlier["settings"] == asdict(settings):
        return path
    network, datamodule = open_run(folder)
    measured = settings.measure(network, datamodule) | {"training": training_id(folder)}
    write_whole(path, json.dumps(measured, indent=2) + "\n")
    return path


def open_run(folder: Path) -> tuple[nn.Module, ImageDataModule]:
    """Open the network of a finished run, on a GPU if there is one, and its data.

    Raises:
        ValueError: If there are no weights, or they are not of the network that the config names.
    """
    weights = folder / "weights.pth"
    if not weights.is_file():
        raise ValueError(f"expected {weights}, which supermix-train writes, found no such file: train it again")
    config = OmegaConf.load(folder / "config.yaml")
    assert isinstance(config, DictConfig)
    datamodule = build_data(config)
    network = load_checkpoint(instantiate(config.network, num_classes=datamodule.num_classes), weights)
    if config.get("channels_last"):
        network = network.to(memory_format=torch.channels_last)
    return network.to("cuda" if torch.cuda.is_available() else "cpu"), datamodule


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all runs in some folders."""
    parser = argparse.ArgumentParser(prog="python -m supermix_pl.experiments.evaluate", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders that are searched for runs of supermix-train")
    for field in fields(Robustness):
        kind = float if field.name == "epsilon" else int
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=kind, default=field.default, help=f"default {field.default}; see `Robustness`")
    options = parser.parse_args(arguments)
    try:
        settings = Robustness(**{field.name: getattr(options, field.name) for field in fields(Robustness)})
        runs, problems = find_runs(options.runs)
        for run in runs:
            print(evaluate(run.folder, settings))
    except ValueError as error:
        parser.error(str(error))
    for problem in problems:
        print(f"passed over {problem.folder}: {problem.reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
