"""What decides on a training, apart from what it is a run of: to keep different budgets apart, and to say how."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supermix_pl.experiments.shared.runs.folders import Run
from supermix_pl.experiments.shared.runs.identity import dataset, target

_IDENTITY = {"method", "pair", "table", "protocol", "scale"}
_NO_PART_OF_TRAINING = {
    *("seed", "paths", "logger", "callbacks", "ckpt_path", "channels_last", "matmul_precision", "num_mixes"),
    *("overwrite", "restart", "rows", "compile"),
    "milestones",  # scheduler.milestones are what counts
}
_NO_PART_ANYWHERE = {"seed", "root", "cache_dir", "num_workers", "eval_batch_size", "progress", "log"}
_NO_PART_OF = {  # settings of a node that change what it costs or shows
    "teacher": {"channels_last", "fold", "compile"},
    "mixes": {"_target_", "batch_size"},
    "mixing": {"save_state", "log_images_every"},
    "trainer": {
        *("accelerator", "strategy", "default_root_dir", "deterministic", "enable_model_summary"),
        *("enable_progress_bar", "log_every_n_steps", "num_sanity_val_steps"),
    },
}
_NOT_OF_BUDGET = ("augment", "batch_size", "drop_last", "folder", "with_indices")  # of the data


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What all cells of a printed table have in common."""

    protocol: str | None  # None for runs without
    scale: str | None  # likewise
    dataset: str
    data: tuple[tuple[str, str], ...]  # which of its images, and how: (setting, value) pairs

    @property
    def images_per_class(self) -> float:
        """Return the number of training images of each class; infinity for all."""
        return float(dict(self.data).get("images_per_class", math.inf))

    def rank(self) -> tuple[bool, bool, float]:
        """Return what budgets are sorted by: the paper's first, then by the number of images."""
        return self.protocol != "paper", self.scale != "paper", self.images_per_class

    def title(self) -> str:
        """Return the most important in a line."""
        images = dict(self.data).get("images_per_class")
        named = [f"protocol {self.protocol}" if self.protocol else "no protocol"]
        named += [f"scale {self.scale}" if self.scale else "no scale", self.dataset]
        return ", ".join([*named, f"{images} images a class"] if images else named)

    def unlike_paper(self, datasets: Sequence[str]) -> list[str]:
        """List what sets it apart from the paper's."""
        data = dict(self.data)
        held_out = float(data.get("validation_fraction", 0))
        reasons = [
            "" if self.protocol == "paper" else f"protocol {self.protocol}" if self.protocol else "no protocol named",
            "" if self.scale == "paper" else f"scale {self.scale}" if self.scale else "no scale named",
            "" if self.dataset in datasets else f"data {self.dataset}",
            f"{data['images_per_class']} images a class" if "images_per_class" in data else "",
            f"{held_out:g} of the training images held out" if held_out > 0 else "",
        ]
        return [reason for reason in reasons if reason]


def budget(run: Run) -> Budget:
    """Find the budget of a run."""
    settings = training(run.config)
    settings = {name.removeprefix("data."): settings[name] for name in sorted(settings) if name.startswith("data.")}
    return Budget(
        protocol=run.name_of("protocol"),
        scale=run.name_of("scale"),
        dataset=dataset(run.config),
        data=tuple(
            (name, as_text(target({name: value}) if name == "_target_" else value))
            for name, value in settings.items()
            if not name.startswith(_NOT_OF_BUDGET)
        ),
    )


def training(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide on a training, by dotted name, without seeds, and of paths only the last name.

    What is null is left out. A fixed data set of mixes stands with its size, where its folder can be read.
    """
    nodes = {name: node for name, node in config.items() if name not in _IDENTITY | _NO_PART_OF_TRAINING}
    if isinstance(mixes := nodes.get("mixes"), dict) and mixes:
        nodes.pop("engine", None)  # such images are made before
        nodes["mixes"] = _mixes(mixes)
    for part, left_out in _NO_PART_OF.items():
        if isinstance(node := nodes.get(part), dict):
            nodes[part] = {name: value for name, value in node.items() if name not in left_out}
    return {name: value for name, value in flat(nodes, _NO_PART_ANYWHERE).items() if value is not None}


def differences(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the names under which settings differ."""
    names = dict.fromkeys(name for each in settings for name in each)
    return [name for name in names if len({as_text(each.get(name)) for each in settings}) > 1]


def label(settings: Mapping[str, Any], names: Sequence[str]) -> str:
    """Write what settings have under some names; of what is built the name alone.

    >>> label({"task.loss": "dkd", "engine._target_": "a.BatchEngine"}, ["task.loss", "engine._target_", "mixes.size"])
    'task.loss=dkd, engine=BatchEngine, no mixes.size'
    """
    words = []
    for name in names:
        value, short = as_text(settings.get(name)), name.removesuffix("._target_")
        value = value if name == short else value.rpartition(".")[2]
        words.append(f"{short}={value}" if name in settings else f"no {short}")
    return ", ".join(words)


def as_text(value: Any) -> str:
    """Write a setting; equal ones are written equally."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def flat(node: Mapping[Any, Any], left_out: Collection[str] = (), prefix: str = "") -> dict[str, Any]:
    """List the settings of a config by dotted name, but those of some names; of paths only the last name."""
    found: dict[str, Any] = {}
    for name, value in node.items():
        if name in left_out:
            continue
        if isinstance(value, dict):
            found |= flat(value, left_out, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = Path(value).name if isinstance(value, str) and "/" in value else value
    return found


def _mixes(node: dict[str, Any]) -> dict[str, Any]:
    """Describe rows that were made before: mixes by their number, planned or read in their folder, else by its name."""
    kind, folder = target(node).lower(), str(node.get("folder"))
    if kind not in ("fixed", "folder"):
        return node | {"kind": kind}
    described = {name: value for name, value in node.items() if name != "folder"} | {"kind": "fixed"}
    if kind == "fixed":
        return described
    try:
        return described | {"size": json.loads((Path(folder) / "about.json").read_text(encoding="utf-8"))["size"]}
    except (OSError, ValueError, KeyError, TypeError):
        return described | {"folder": folder}
