"""What was measured of a run after its training: evaluation.json beside its metrics.json."""

import hashlib
import json
from pathlib import Path
from typing import Any

FILE = "evaluation.json"


def read_evaluation(folder: Path) -> dict[str, Any] | None:
    """Read what was measured of a run; None where nothing was, or it was of an earlier training in the same folder."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        fresh = content["training"] == training_id(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content if fresh and isinstance(content.get("settings"), dict) else None


def training_id(folder: Path) -> str:
    """Identify a training by what it wrote, its duration included: copies of its files keep no times."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return hashlib.sha256(json.dumps(metrics, sort_keys=True).encode()).hexdigest()[:16]
