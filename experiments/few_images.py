r"""Runs the study of few images: arms, seeds and numbers of training images in turn, a row of a CSV for each.

    python -m supermix_pl.experiments.few_images few_images.csv --arms kd mixup supermix --images 10 --seeds 1 2 \
        data.folder=CIFAR100_SHARDS teacher.checkpoint=WRN_16_2.pth

Started again it goes on: rows that are there are passed over, a run that was stopped begins anew. Several may work on
one CSV at once, each on runs that no other has taken. Every run is `supermix-train experiment=few_images` in a process
of its own, on OMP_NUM_THREADS threads or one, in RUNS/IMAGES/ARM/SEED, with its output in log.txt.
"""

import argparse
import csv
import hashlib
import itertools
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from supermix_pl.experiments.evaluate import open_run
from supermix_pl.experiments.evaluation import quality
from supermix_pl.experiments.shared.provenance import collect

ARMS = {  # in the second half of the batch, and the config in conf/method
    "kd": "kd_natural",
    "mixup": "kd_all_mixup",
    "supermix": "kd_all_supermix",
    "cutmix": "kd_all_cutmix",
    "supermix_fixed": "kd_all_supermix_fixed",
    "control": "kd_all_misplaced_fixed",
    "half": "kd_all_half",
    "kd_randaugment": "kd_randaugment",
    "supermix_exact": "kd_all_supermix_exact_fixed",
    "supermix_callback": "callback_supermix",
    "default": "default_supermix",
    "plain": "plain",
}
_MEASURED = {  # columns, and the metrics of the run that they hold
    "holds": "supermix/holds",
    "seconds": "fit_seconds",
    "ms_per_step": "ms_per_step",
    "steps": "steps",
    "samples": "student_samples",
    "teacher_forwards": "teacher/forwards_per_step",
    "teacher_backwards": "teacher/backwards_per_step",
}
_KEY = ("arm", "images", "seed", "settings")
COLUMNS = (*_KEY, "accuracy", "calibration_error", "nll", *_MEASURED, "commit", "machine")
_PLACES = ("data.folder", "data.cache_dir", "teacher.checkpoint", "teacher.folder", "paths.", "hydra.")
_ORIGIN = "origin.json"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run of the study.

    Args:
        runs: Folder of all runs.
        arm: Of `ARMS`.
        images: Training images of each class, or "all".
        seed: Of subset, student, order and mixes.
        overrides: Of the command line.
    """

    runs: Path
    arm: str
    images: str
    seed: int
    overrides: tuple[str, ...] = ()

    @property
    def settings(self) -> str:
        """What the command line changes, without where data and teacher lie."""
        return " ".join(sorted(each for each in self.overrides if not each.lstrip("+").startswith(_PLACES)))

    @property
    def key(self) -> tuple[str, ...]:
        """What tells its row from others."""
        return self.arm, self.images, str(self.seed), self.settings

    @property
    def folder(self) -> Path:
        """Where it goes."""
        name = str(self.seed)
        if self.settings:
            name += "-" + hashlib.sha256(self.settings.encode()).hexdigest()[:8]
        return self.runs / self.images / self.arm / name

    def command(self) -> list[str]:
        """Return the command that trains it."""
        return [
            *(sys.executable, "-m", "supermix_pl.experiments.train", "experiment=few_images"),
            *(f"method={ARMS[self.arm]}", f"seed={self.seed}", f"hydra.run.dir={self.folder}"),
            f"data.images_per_class={'null' if self.images == 'all' else self.images}",
            "trainer.enable_progress_bar=false",
            *self.overrides,
        ]


def jobs(
    runs: Path, *, arms: Sequence[str], images: Sequence[str], seeds: Sequence[int], overrides: Sequence[str]
) -> Iterator[Job]:
    """Yield the runs in order: by number of images, then by seed, then by arm."""
    for number, seed, arm in itertools.product(images, seeds, arms):
        yield Job(runs=runs, arm=arm, images=number, seed=seed, overrides=tuple(overrides))


def read(output: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV; none where there is no file.

    Raises:
        ValueError: If it has other columns.
    """
    if not output.is_file():
        return []
    with output.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if tuple(rows.fieldnames or ()) != COLUMNS:
            raise ValueError(
                f"expected the columns {', '.join(COLUMNS)} in {output}, got {', '.join(rows.fieldnames or ())}: give "
                "another file"
            )
        return list(rows)


def run(job: Job, output: Path) -> bool:
    """Train and measure, unless the row is there or another process is at it; return whether nothing failed."""
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(job.folder / "lock", timeout=0):
            if job.key in _keys(output):
                return True
            if not (job.folder / "metrics.json").is_file() and not _train(job):
                return False
            row = _row(job)
            with FileLock(f"{output}.lock"):
                _append(output, row)
    except Timeout:
        print(f"{job.folder}: another process is at it", flush=True)
        return True
    print(f"{job.folder}: {100 * row['accuracy']:.2f} % after {row['seconds']:.0f} s", flush=True)
    return True


def _train(job: Job) -> bool:
    origin = collect("supermix_pl.experiments.few_images", [], seeds=[job.seed], device=_device())
    commit = None if origin.commit is None else origin.commit[:7] + " (dirty)" * bool(origin.dirty)
    machine = ", ".join(f"{name} {value}" for name, value in origin.machine.items())
    (job.folder / _ORIGIN).write_text(json.dumps({"commit": commit, "machine": machine}), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with (job.folder / "log.txt").open("a", encoding="utf-8") as log:
        print("$", shlex.join(job.command()), file=log, flush=True)
        if subprocess.run(job.command(), stdout=log, stderr=log, env=environment, check=False).returncode:
            print(f"failed: {job.folder}, see {log.name}", file=sys.stderr, flush=True)
            return False
    return True


def _row(job: Job) -> dict[str, Any]:
    """Measure what was trained, in float32 on all test images."""
    metrics = json.loads((job.folder / "metrics.json").read_text(encoding="utf-8"))
    measured = {column: metrics.get(name) for column, name in _MEASURED.items()}
    origin = json.loads((job.folder / _ORIGIN).read_text(encoding="utf-8"))
    return dict(zip(_KEY, job.key, strict=True)) | quality(*open_run(job.folder)) | measured | origin


def _append(output: Path, row: dict[str, Any]) -> None:
    fresh = not output.is_file()
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("a", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if fresh:
            rows.writeheader()
        rows.writerow({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()})


def _keys(output: Path) -> set[tuple[str, ...]]:
    return {tuple(row[name] for name in _KEY) for row in read(output)}


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is left of the study."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    output: Path = options.output.resolve()
    runs: Path = (options.runs or output.with_suffix("")).resolve()
    wanted = list(
        jobs(runs, arms=options.arms, images=options.images, seeds=options.seeds, overrides=options.overrides)
    )
    there = _keys(output)
    left = [job for job in wanted if job.key not in there]
    if options.dry_run:
        print(*(shlex.join(job.command()) for job in left), sep="\n")
        return
    failed = sum(not run(job, output) for job in left)
    print(f"{sum(job.key in _keys(output) for job in wanted)} of {len(wanted)} rows in {options.output}")
    if failed:
        sys.exit(1)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; end the program with a message where it makes no sense. Overrides may stand anywhere."""
    overrides = [each for each in arguments if "=" in each and not each.startswith("--")]
    parser = _parser()
    options = parser.parse_args([each for each in arguments if each not in overrides])
    options.overrides = overrides
    for images in options.images:
        if images != "all" and not (images.isdecimal() and int(images) >= 1):
            parser.error(f"expected --images as numbers >= 1 or all, got {images}")
    for seed in options.seeds:
        if seed < 0:
            parser.error(f"expected --seeds as integers >= 0, got {seed}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m supermix_pl.experiments.few_images",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s OUTPUT.csv [--arms ARM ...] [--images N ...] [--seeds SEED ...] [OVERRIDE=VALUE ...]",
    )
    add = parser.add_argument
    add("output", type=Path, help="CSV of the rows")
    add("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), metavar="ARM", help=f"out of {', '.join(ARMS)}")
    add("--images", nargs="+", default=["10"], metavar="N", help="training images of each class, or all; default 10")
    add("--seeds", nargs="+", type=int, default=[1, 2, 3, 4], metavar="SEED", help="default 1 2 3 4")
    add("--runs", type=Path, help="folder of the runs; default the name of the CSV without its ending")
    add("--dry-run", action="store_true", help="print the trainings that are left")
    return parser


if __name__ == "__main__":
    main()
