"""The smallest that benchmarks can be of: an untrained network and a few drawn images."""

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from supermix_pl.experiments.bench.program import read_settings
from supermix_pl.experiments.opening import composed

SMALL = ["data.size=16", "data.train_size=32", "data.test_size=32", "teacher=untrained", "bench.threads=1"]
CLASSES = "mixer.classes=labels"  # an untrained network finds one class


def settings(program: str, *overrides: str) -> tuple[DictConfig, Any]:
    """Read a benchmark's config as its command does."""
    config = composed(f"bench/{program}", overrides)
    return config, read_settings(config)


def written(folder: Path) -> tuple[str, dict[str, Any]]:
    """Read what a benchmark wrote."""
    (path,) = folder.glob("*.json")
    return path.with_suffix(".md").read_text(), json.loads(path.read_text())
