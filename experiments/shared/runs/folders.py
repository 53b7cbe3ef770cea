"""The runs that are in folders, what was measured of them afterwards, and what is there in place of whole ones."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

EVALUATION = "evaluation.json"  # of a run: what `evaluate` measured of it
ORIGIN = "origin.json"  # of a run: the commit and the machine that trained it
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A finished run."""

    folder: Path
    config: dict[str, Any]  # its resolved config
    metrics: dict[str, Any]
    seed: int
    written: float  # when metrics.json was written, in seconds

    def number(self, name: str) -> float | None:
        """Return a metric, if it was measured and is finite."""
        return _finite(self.metrics.get(name))

    def origin(self) -> dict[str, Any]:
        """Return commit, machine and command line of its training; nothing where they were not kept."""
        try:
            return json.loads((self.folder / ORIGIN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def name_of(self, node: str) -> str | None:
        """Return the name that a node of the config carries: method, pair, protocol, scale."""
        value = self.config.get(node)
        name = value.get("name") if isinstance(value, dict) else value
        return name if isinstance(name, str) else None


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A folder that could not be counted."""

    folder: Path
    reason: str


def find_runs(folders: Sequence[Path]) -> tuple[list[Run], list[Problem]]:
    """Find the runs in folders and all their subfolders.

    A run is a folder with config.yaml beside metrics.json. Hydra's own .hydra/config.yaml is none, nor is a config.yaml
    of other programs. A folder that is reached twice counts once.

    Raises:
        ValueError: If a folder does not exist, or there is neither a run nor a problem in any of them.
    """
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise ValueError(f"expected folders of runs, got no such folder as {', '.join(missing)}")
    unlisted: list[OSError] = []
    found = [entry for folder in _folders(folders, unlisted.append) if (entry := read_run(folder)) is not None]
    found += [Problem(folder=Path(error.filename), reason=f"cannot be listed ({error.strerror})") for error in unlisted]
    runs = [entry for entry in found if isinstance(entry, Run)]
    if not found:
        raise ValueError(
            f"expected runs (config.yaml beside metrics.json) in {', '.join(map(str, folders))}, found none"
        )
    return runs, [entry for entry in found if isinstance(entry, Problem)]


def read_run(folder: Path) -> Run | Problem | None:
    """Read the run of a folder with a config.yaml; None if that is another program's."""
    try:
        config = yaml.load((folder / "config.yaml").read_text(encoding="utf-8"), _LOADER)
    except (OSError, ValueError, yaml.YAMLError) as error:
        return Problem(folder=folder, reason=f"config.yaml cannot be read ({_first_line(error)})")
    path = folder / "metrics.json"
    if config is not None and not (isinstance(config, dict) and "network" in config):
        reason = "metrics.json beside a config.yaml without a network, which supermix-train did not write"
        return Problem(folder=folder, reason=reason) if path.exists() else None
    if config is None:
        return Problem(folder=folder, reason="config.yaml is empty")
    if not path.exists():
        return Problem(folder=folder, reason="no metrics.json: stopped, or still running")
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        return Run(
            folder=folder,
            config=config,
            metrics=_checked(metrics),
            seed=_seed(config, metrics),
            written=path.stat().st_mtime,
        )
    except (OSError, ValueError) as error:
        return Problem(folder=folder, reason=f"metrics.json cannot be used ({_first_line(error)})")


def read_evaluation(folder: Path) -> dict[str, Any] | None:
    """Read what was measured of a run; None where nothing was, or it was of an earlier training in the same folder."""
    try:
        content = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
        fresh = content["training"] == training_id(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content if fresh and isinstance(content.get("settings"), dict) else None


def training_id(folder: Path) -> str:
    """Identify a training by what it wrote, its duration included: copies of its files keep no times."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return hashlib.sha256(json.dumps(metrics, sort_keys=True).encode()).hexdigest()[:16]


def _folders(tops: Sequence[Path], on_error: Callable[[OSError], None]) -> Iterator[Path]:
    seen: set[Path] = set()
    for top in tops:
        for parent, names, files in os.walk(top, onerror=on_error, followlinks=True):
            here = Path(parent).resolve()
            names[:] = [] if here in seen else sorted(set(names) - {".hydra"})
            if here not in seen and "config.yaml" in files:
                yield Path(parent)
            seen.add(here)


def _checked(metrics: Any) -> dict[str, Any]:
    accuracy = metrics.get("test/accuracy") if isinstance(metrics, dict) else None
    value = _finite(accuracy)
    if value is None or not 0 <= value <= 1:
        raise ValueError(f"expected test/accuracy in [0, 1], got {accuracy}")
    return metrics


def _seed(config: dict[str, Any], metrics: dict[str, Any]) -> int:
    seed = metrics.get("seed", config.get("seed"))
    if not isinstance(seed, int):
        raise ValueError(f"expected a whole number as seed, got {seed}")
    return seed


def _finite(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number else None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
