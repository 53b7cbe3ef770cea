"""What decides on a training, apart from what it is a run of: to keep different budgets apart, and to say how."""

import fnmatch
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supermix_pl.experiments.shared.runs.folders import Run
from supermix_pl.experiments.shared.runs.identity import dataset, target

FREE = (  # settings that change no training, each with all below it; * stands for any letters
    *("overwrite", "restart", "rows", "paths", "logger", "num_mixes"),
    *("callbacks.checkpoint", "callbacks.progress"),  # callbacks of the user's may do anything
    *("data.num_workers", "data.eval_batch_size", "data.cache_dir", "data.root"),
    *("teacher.*progress", "teacher.*folder", "mixing.log", "mixing.log_images_every", "mixing.save_state"),
    *("trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.log_every_n_steps"),
    *("trainer.default_root_dir", "trainer.num_sanity_val_steps"),
)
_SAME_TRAINING = (  # what else runs of one training may differ in
    *("method", "pair", "table", "protocol", "scale"),  # where they come from
    *("seed", "*.seed", "ckpt_path"),
    *("channels_last", "compile", "matmul_precision", "trainer.accelerator", "trainer.strategy"),
    *("trainer.deterministic", "teacher.*channels_last", "teacher.*fold", "teacher.*compile"),
    *("mixes._target_", "mixes.batch_size"),
    "milestones",  # scheduler.milestones are what counts
)
_NOT_OF_BUDGET = ("augment", "batch_size", "drop_last", "folder", "with_indices")  # of the data
_SHOWN = (  # what of a command line the cell, its teacher's row or the head of its table tell
    *("experiment", "data", "data.folder", "teacher", "trainer", "trainer.devices", "trainer.num_nodes", "mixer.k"),
    *("mixes=fixed", "mixes=folder", "mixes.folder", "mixes.size"),
    *("callbacks=none", "callbacks=default"),  # which change nothing
)


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
    nodes = dict(config)
    if isinstance(mixes := nodes.get("mixes"), dict) and mixes:
        nodes.pop("engine", None)  # such images are made before
        nodes["mixes"] = _mixes(mixes)
    settings = settings_but(FREE + _SAME_TRAINING, nodes)
    return {name: _whole(_without_folders(value)) for name, value in settings.items() if value is not None}


def under(teacher: float | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Add a measured teacher's accuracy in [0, 1] to settings, to a tenth of a point: files of one name may differ."""
    if teacher is None or math.isnan(teacher):
        return dict(settings)
    return {**settings, "teacher/accuracy": f"{100 * teacher:.1f}"}


def changes(overrides: Sequence[str], table: str) -> list[str]:
    """List what a command line changes in the settings of a table's cells, and an experiment that is not the table's.

    >>> changes(["experiment=table2", "pair=vgg13-vgg8", "seed=1", "optimizer.lr=0.3", "data=parquet"], "table2")
    ['optimizer.lr=0.3']
    >>> changes(["experiment=ablation_k", "mixer.k=2"], "table2")
    ['experiment=ablation_k']
    """
    free = _below(FREE + _SAME_TRAINING)
    found = []
    for override in overrides:
        name, _, value = override.lstrip("+~").partition("=")
        in_head = name.startswith("data.") and not name.removeprefix("data.").startswith(_NOT_OF_BUDGET)
        shown = name in _SHOWN or override in _SHOWN or name.startswith("teacher.") or in_head
        if (name == "experiment" and value != table) or not (shown or free.match(f"{name}.")):
            found.append(override)
    return found


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


def settings_but(left_out: Sequence[str], config: Mapping[Any, Any]) -> dict[str, Any]:
    """List the settings of a config by dotted name, but those of some patterns."""
    patterns = _below(left_out)
    return {name: value for name, value in _flat(config).items() if not patterns.match(f"{name}.")}


def _below(names: Sequence[str]) -> re.Pattern[str]:
    """Return what matches a setting, with a dot behind it, if it is one of these or below one."""
    return re.compile("|".join(fnmatch.translate(f"{each}.*") for each in names))


def _flat(node: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _without_folders(value: Any) -> Any:
    return Path(value).name if isinstance(value, str) and "/" in value else value


def _whole(value: Any) -> Any:
    """Make 3.0 and 3 one setting, whichever of them a command line had."""
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
