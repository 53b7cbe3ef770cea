"""A made-up sweep for the HTML report, with names that would be markup if they were not escaped."""

import csv
import json
import math
from pathlib import Path
from typing import Any

from supermix_pl.experiments.shared.runs import folders
from tests.experiments.report.report_folders import write_run

HOSTILE = (
    "</title></style><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">&amp;'\""
)
ENGINES = {
    "batch": {"_target_": "supermix_pl.engine.BatchEngine"},
    "stream": {"_target_": "supermix_pl.engine.StreamEngine", "reuse": 8},
}
METHODS = ("plain", "kd", "ce_mixup", "ce_cutmix", "ce_supermix", "kd_mixup", "kd_cutmix", "kd_supermix")


def write_sweep(top: Path, *, methods: tuple[str, ...] = METHODS, seeds: int = 3, hostile: str = "") -> Path:
    """Write runs of all methods, and of kd_supermix with both engines, with logs and evaluations."""
    made = [(method, "batch") for method in methods] + [("kd_supermix", "stream")]
    for row, (method, engine) in enumerate(made):
        for seed in range(seeds):
            folder = top / f"{method}-{engine}" / str(seed)
            accuracy = 40 + 1.3 * row + 0.6 * math.sin(7 * seed + row)
            nodes: dict[str, Any] = {"engine": ENGINES[engine], "note": hostile or None, "protocol": hostile or "equal"}
            write_run(folder, accuracy, method=method + hostile, table=None, pair=None, seed=seed, metrics=_cost(row),
                      network_name="resnet8", taught_by="wrn_16_2", epochs=40, **nodes)  # fmt: skip
            _write_log(folder, accuracy, seed)
            _write_evaluation(folder, accuracy)
    return top


def _cost(row: int) -> dict[str, float]:
    followed = {"test/teacher_agreement": 0.5 + row / 100, "test/teacher_kl": 0.75 - row / 100}
    return {"fit_seconds": 600.0 + 31 * row, "ms_per_step": 300.0 + 9 * row, **followed}


def _write_log(folder: Path, accuracy: float, seed: int) -> None:
    path = folder / "csv" / "version_0" / "metrics.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "step", "train/loss", "val/accuracy"])
        for epoch in range(10):
            share = 1 - math.exp(-(epoch + 1) / 3)
            writer.writerow([epoch, 100 * epoch + 49, 4.6 - 3 * share + 0.1 * math.cos(5 * epoch + seed), ""])
            writer.writerow([epoch, 100 * epoch + 99, "", accuracy / 100 * share])


def _write_evaluation(folder: Path, accuracy: float) -> None:
    names = ("gaussian_noise", "gaussian_blur", "jpeg")
    content = {
        "accuracy": accuracy / 100,
        "calibration_error": 0.2 - accuracy / 500,
        "fgsm_accuracy": accuracy / 400,
        "corrupted_accuracy": accuracy / 150,
        **{f"corrupted/{name}/{level}": accuracy / 100 / (level + 1) for name in names for level in (1, 2, 3)},
        "settings": {"epsilon": 2 / 255, "bins": 15},
        "training": folders.training_id(folder),
    }
    (folder / "evaluation.json").write_text(json.dumps(content))
