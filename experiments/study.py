"""Runs a study: every method, seed and number of training images in turn, then their evaluation.

    python -m supermix_pl.experiments.study study data.folder=shards teacher.checkpoint=teacher.pth

Started again it goes on: finished runs are passed over, stopped ones resume from their last checkpoint. Every run is
`supermix-train experiment=study` in a process of its own, in OUTPUT/IMAGES/METHOD/SEED, with its output in log.txt.
"""

import argparse
import itertools
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from supermix_pl.experiments import evaluate
from supermix_pl.experiments.shared.runs.evaluations import read_evaluation

METHODS = (
    *("plain", "kd", "ce_mixup", "ce_cutmix", "ce_supermix", "kd_mixup", "kd_cutmix", "kd_supermix"),
    *("kd_all_mixup_fixed", "kd_all_cutmix_fixed", "kd_all_supermix_fixed"),
    *("ce_supermix_stream", "kd_supermix_stream", "ce_supermix_batch", "kd_supermix_batch"),
)
_BUDGETS = {  # where they are not the config's, by images a class: share of the protocol's epochs, mixes in D'
    "10": ("scale.epochs=0.25", "num_mixes=1000"),
    "all": ("scale.epochs=0.00833333", "num_mixes=5000"),
}
_IMAGES = ("50", *_BUDGETS)
_ON_THE_FLY = "_supermix_batch"  # solves every batch to the end: for small scale
SMOKE = (
    *("trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"),
    *("trainer.num_sanity_val_steps=0", "scale.epochs=0", "scale.max_steps=2", "data.batch_size=4"),
    *("num_mixes=8", "callbacks=none", "logger=none"),
    *("trainer.log_every_n_steps=1", "data.eval_batch_size=20"),
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run of the study.

    Args:
        folder: Where it goes.
        method: Of conf/method.
        images: Training images of each class, or "all".
        seed: Of the student.
    """

    folder: Path
    method: str
    images: str
    seed: int

    @property
    def finished(self) -> bool:
        """Return whether it has been trained."""
        return (self.folder / "metrics.json").is_file()

    def command(self, overrides: Sequence[str]) -> list[str]:
        """Return the command that trains it, from its last checkpoint if it has one."""
        last = self.folder / "checkpoints" / "last.ckpt"
        return [
            *(sys.executable, "-m", "supermix_pl.experiments.train", "experiment=study"),
            *(f"method={self.method}", f"seed={self.seed}", f"hydra.run.dir={self.folder}"),
            f"data.images_per_class={'null' if self.images == 'all' else self.images}",
            *_BUDGETS.get(self.images, ()),
            "trainer.enable_progress_bar=false",
            *overrides,
            *([f"ckpt_path={last}"] if last.is_file() else []),
        ]


def jobs(output: Path, *, images: Sequence[str], methods: Sequence[str], seeds: Sequence[int]) -> Iterator[Job]:
    """Yield the runs in order: by number of images, then by seed; the batch engine not where it would take days."""
    for number, seed, method in itertools.product(images, seeds, methods):
        if not (number == "all" and method.endswith(_ON_THE_FLY)):
            yield Job(folder=output / number / method / str(seed), method=method, images=number, seed=seed)


def run(job: Job, overrides: Sequence[str], measure: Sequence[str]) -> bool:
    """Train and evaluate, as far as that is to be done; return whether it came to its end."""
    job.folder.mkdir(parents=True, exist_ok=True)
    commands = [[sys.executable, "-m", evaluate.__name__, str(job.folder), *measure]]
    if not job.finished:
        commands = [job.command(overrides), *commands]
    elif read_evaluation(job.folder) is not None:
        return True
    start = time.monotonic()
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    with (job.folder / "log.txt").open("a", encoding="utf-8") as log:
        for command in commands:
            print("$", shlex.join(command), file=log, flush=True)
            if subprocess.run(command, stdout=log, stderr=log, env=environment, check=False).returncode:
                print(f"failed: {job.folder}, see {log.name}", file=sys.stderr, flush=True)
                return False
    print(f"{job.folder}: {time.monotonic() - start:.0f} s", flush=True)
    return True


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is left of a study."""
    options = _parse(arguments)
    wanted = list(jobs(options.output.resolve(), images=options.images, methods=options.methods, seeds=options.seeds))
    overrides = [*(SMOKE if options.smoke else ()), *options.overrides]
    measure = ["--per-class", "1", "--corrupted-per-class", "1"] if options.smoke else []
    if options.dry_run:
        print(*(shlex.join(job.command(overrides)) for job in wanted if not job.finished), sep="\n")
        return
    with ThreadPoolExecutor(options.jobs) as pool:
        done = list(pool.map(lambda job: run(job, overrides, measure), wanted))
    print(f"{sum(done)} of {len(done)} runs in {options.output}")
    if not all(done):
        sys.exit(1)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; end the program with a message where it makes no sense."""
    parser = _parser()
    options = parser.parse_intermixed_args(arguments)
    for name, known in (("images", _IMAGES), ("methods", METHODS)):
        given = getattr(options, name).split(",")
        setattr(options, name, given)
        if unknown := [each for each in given if each not in known]:
            parser.error(f"expected --{name} out of {','.join(known)}, got {','.join(unknown)}")
    if not all(seed.isdecimal() for seed in options.seeds.split(",")):
        parser.error(f"expected --seeds as integers >= 0, such as 0,1,2, got {options.seeds}")
    options.seeds = [int(seed) for seed in options.seeds.split(",")]
    if options.jobs < 1:
        parser.error(f"expected --jobs >= 1, got {options.jobs}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m supermix_pl.experiments.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("output", type=Path, help="folder for the runs")
    add("overrides", nargs="*", help="for supermix-train: data.folder=..., teacher.checkpoint=..., network=...")
    add("--images", default=",".join(_IMAGES), help="training images a class, in order; default %(default)s")
    add("--methods", default=",".join(METHODS), help="in order; default %(default)s")
    add("--seeds", default="0,1,2", help="default %(default)s")
    add("--jobs", type=int, default=1, help="runs at a time, each on OMP_NUM_THREADS threads, or one; default 1")
    add("--smoke", action="store_true", help="two steps of each: whether they start, nothing else")
    add("--dry-run", action="store_true", help="print the trainings that are left")
    return parser


if __name__ == "__main__":
    main()
