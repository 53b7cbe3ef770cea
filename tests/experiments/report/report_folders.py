"""Folders of runs as `supermix-train` leaves them, small and made up."""

import json
import os
from pathlib import Path
from typing import Any

import yaml

NETWORKS = "supermix_pl.experiments.networks."
MIXERS = {"mixup": "MixUp", "cutmix": "CutMix", "supermix": "SuperMix"}


def config_of(
    method: str | None = "kd",
    pair: str | None = "wrn_40_2-wrn_16_2",
    *,
    seed: int = 0,
    table: str | None = "table2",
    protocol: str | None = "paper",
    scale: str | None = "cpu",
    network_name: str | None = None,
    taught_by: str | None = None,
    k: int = 2,
    epochs: int = 5,
    **nodes: Any,
) -> dict[str, Any]:
    """A resolved config; further nodes are merged into those that there are."""
    first, _, second = (pair or "").partition("-")
    taught_by, student = taught_by or first, network_name or second
    mixer = next((name for word, name in MIXERS.items() if word in (method or "")), None)
    config: dict[str, Any] = {
        "seed": seed,
        "table": table,
        "method": {"name": method},
        "pair": {"name": pair, "teacher": taught_by, "student": student},
        "protocol": {"name": protocol},
        "scale": {"name": scale},
        "ckpt_path": None,
        "data": {
            "_target_": "supermix_pl.experiments.data.Parquet",
            "folder": "/data/cifar100",
            "batch_size": 64,
            "seed": seed,
            "images_per_class": 50,
            "validation_fraction": 0.0,
            "cache_dir": "/home/somebody/.cache",
        },
        "network": {"_target_": NETWORKS + student},
        "teacher": {"network": {"_target_": NETWORKS + taught_by, "_partial_": True}, "checkpoint": "/t/teacher.pth"},
        "mixer": {"_target_": f"supermix_pl.{mixer}", "k": k, "alpha": 3.0} if mixer else None,
        "mixing": {"_target_": "supermix_pl.SuperMixCallback", "seed": seed, "mode": "extend"},
        "task": {
            "_target_": f"supermix_pl.experiments.tasks.{'Distillation' if 'kd' in str(method) else 'Classification'}"
        },
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.05},
        "trainer": {"max_epochs": epochs, "accelerator": "cpu", "default_root_dir": f"/runs/{method}/{seed}"},
        "callbacks": {"checkpoint": {"dirpath": f"/runs/{method}/{seed}"}},
        "logger": {},
        "paths": {"output_dir": f"/runs/{method}/{seed}"},
    }
    if method == "plain":
        config["teacher"] = None
    for name, node in nodes.items():
        config[name] = config[name] | node if isinstance(node, dict) and isinstance(config.get(name), dict) else node
    return config


def metrics_of(config: dict[str, Any], accuracy: float, **others: Any) -> dict[str, Any]:
    """The metrics of a run; accuracy in %."""
    epochs = config["trainer"]["max_epochs"]
    samples = 5000 * epochs * (2 if config["mixer"] else 1)
    metrics = {
        "test/accuracy": accuracy / 100,
        "test/accuracy_top5": min(1.0, accuracy / 100 + 0.2),
        "val/accuracy_best": accuracy / 100 + 0.002,
        "val/accuracy_top5_best": min(1.0, accuracy / 100 + 0.21),
        "best_epoch": epochs - 1,
        "epochs": epochs,
        "steps": 79 * epochs,
        "seed": config["seed"],
        "student_samples": samples,
        "parameters": 703284,
    }
    if config["teacher"]:
        metrics |= {"teacher/accuracy": 0.72, "teacher/accuracy_top5": 0.92}
    return metrics | others


def write_run(
    folder: Path,
    accuracy: float = 70.0,
    *,
    metrics: dict[str, Any] | None = None,
    written: int = 1000,
    overrides: tuple[str, ...] = (),
    **settings: Any,
) -> Path:
    """Write a finished run, with the command line that it names."""
    config = config_of(**settings)
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text("seed: 0\nnetwork: not a run\n")
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    path = folder / "metrics.json"
    path.write_text(json.dumps(metrics_of(config, accuracy, **(metrics or {})), indent=2))
    os.utime(path, (written, written))
    (folder / "origin.json").write_text(json.dumps({"overrides": overrides}))
    return folder
