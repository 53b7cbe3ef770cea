"""The study of few images as a table: finished runs of `experiment=few_images` become rows of a CSV.

    supermix-train -m experiment=few_images method=kd_natural,kd_all_supermix seed=1,2 rows=runs.csv ...
    supermix-report rows runs.csv multirun/few_images

The first command, given again, goes on where it was stopped; with `rows` it also passes over what has a row already.
The second adds a row for each run that has none, keeps the others, and compares the arms.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from supermix_pl.experiments.evaluate import open_run
from supermix_pl.experiments.evaluation import quality
from supermix_pl.experiments.shared.files import write_whole
from supermix_pl.experiments.shared.render import Table
from supermix_pl.experiments.shared.runs.folders import Run, find_runs
from supermix_pl.experiments.shared.statistics import interval

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
    "callback_distils": "callback_distillation",
    "default": "default_supermix",
    "plain": "plain",
}
_ARM_OF = {method: arm for arm, method in ARMS.items()}
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
_NO_SETTINGS = (  # what the other columns say, where things lie, and what changes no result
    *("experiment=", "method=", "seed=", "data.images_per_class=", "rows=", "overwrite=", "restart.", "logger="),
    *("paths.", "data.folder", "data.cache_dir", "teacher.checkpoint", "teacher.folder", "trainer.enable_progress_bar"),
)


def read(table: Path) -> pd.DataFrame:
    """Return the rows of a CSV, as text; none where there is no file.

    Raises:
        ValueError: If it has other columns.
    """
    if not table.is_file():
        return pd.DataFrame(columns=list(COLUMNS), dtype=str)
    rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    if tuple(rows.columns) != COLUMNS:
        raise ValueError(
            f"expected the columns {', '.join(COLUMNS)} in {table}, got {', '.join(rows.columns)}: give another file"
        )
    return rows


def key_of(config: Mapping[str, Any], overrides: Sequence[str]) -> tuple[str, ...]:
    """Return what tells the row of a run from others: arm, images of a class, seed, what the command line changes."""
    method, images = config["method"]["name"], config["data"]["images_per_class"]
    settings = sorted(each for each in overrides if not each.lstrip("+").startswith(_NO_SETTINGS))
    number = "all" if images is None else str(images)
    return str(_ARM_OF.get(method, method)), number, str(config["seed"]), " ".join(settings)


def has_row(table: str, config: Mapping[str, Any], overrides: Sequence[str]) -> bool:
    """Return whether a CSV has the row of a run; see `key_of`."""
    return key_of(config, overrides) in _keys(read(Path(table)))


def add_rows(table: Path, folders: Sequence[Path]) -> tuple[int, list[str]]:
    """Add a row to a CSV for each finished run that has none: measured in float32 on all test images.

    Return how many rows were added, and what was passed over, a line each.
    """
    runs, problems = find_runs(folders) if folders else ([], [])
    added, passed_over = 0, [f"{problem.folder}: {problem.reason}" for problem in problems]
    with FileLock(f"{table}.lock"):
        rows = read(table)
        keys = _keys(rows)
        for run in runs:
            key = _key_of_run(run)
            if run.name_of("protocol") != "few_images":
                passed_over.append(f"{run.folder}: no run of experiment=few_images")
            elif key not in keys:
                rows.loc[len(rows)] = _row(run, key)
                keys.add(key)
                added += 1
                write_whole(table, rows.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_MINIMAL))
    return added, passed_over


def compare(rows: pd.DataFrame) -> list[Table]:
    """Return a table for each number of images: means over the seeds, and differences to other arms, seed by seed.

    An arm is compared with those of the same settings, or without settings if they saw as many samples.
    After ± stands half the width of the 95 % confidence interval, by Student's t, and behind it how many seeds there
    are; a single seed has no interval.
    """
    tables = []
    for images, part in rows.groupby("images", sort=False):
        values = {name: _by_seed(part, name) for name in ("accuracy", "calibration_error", "nll", "holds")}
        accuracy = values["accuracy"]
        samples: dict[Any, float] = _by_seed(part, "samples").mean(axis=1).to_dict()
        others = {
            "mixup": ["mixup"],
            "cutmix or half, the better": ["cutmix", "half"],
            "kd": ["kd"],
            "control": ["control"],
        }
        cells = []
        for own in list(accuracy.mean(axis=1).sort_values(ascending=False).index):
            arm, settings = own
            cells.append(
                (
                    f"{arm} {settings}".strip(),
                    *(
                        _mean(values[name].loc[own], factor)
                        for name, factor in zip(values, (100, 100, 1, 100), strict=True)
                    ),
                    *(
                        "-"
                        if arm in named and not settings
                        else _mean(accuracy.loc[own] - _best(accuracy, samples, own, named), 100, "+")
                        for named in others.values()
                    ),
                )
            )
        columns = ("arm", "accuracy %", "calibration error %", "NLL", "holds %", *(f"minus {name}" for name in others))
        tables.append(Table(title=f"{images} images a class", columns=columns, rows=cells))
    return tables


def _best(accuracy: pd.DataFrame, samples: Mapping[Any, float], own: tuple[str, str], arms: Sequence[str]) -> pd.Series:
    """Return the best accuracy of arms for each seed: with the same settings, else without any, at equal samples."""
    same = [(arm, own[1]) for arm in arms if (arm, own[1]) in accuracy.index and arm != own[0]]
    plain = [(arm, "") for arm in arms if (arm, "") in accuracy.index and samples[arm, ""] == samples[own]]
    return accuracy.reindex(same or plain).max()


def _by_seed(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """A row for each arm and its settings, a column for each seed."""
    numbers = rows.assign(value=pd.to_numeric(rows[column]))
    return numbers.pivot(index=["arm", "settings"], columns="seed", values="value")


def _mean(values: pd.Series, factor: float, sign: str = "") -> str:
    known = list(factor * values.dropna())
    if not known:
        return "-"
    mean, half = interval(known)
    digits = 1 if factor > 1 else 2
    spread = f" ± {half:.{digits}f} ({len(known)})" if len(known) > 1 else ""
    return f"{mean:{sign}.{digits}f}{spread}"


def _key_of_run(run: Run) -> tuple[str, ...]:
    return key_of(run.config | {"method": {"name": run.name_of("method")}}, run.origin().get("overrides", []))


def _row(run: Run, key: tuple[str, ...]) -> list[str]:
    values = dict(zip(_KEY, key, strict=True)) | quality(*open_run(run.folder))
    values |= {column: run.metrics.get(name) for column, name in _MEASURED.items()}
    values |= run.origin()
    return [_text(values.get(column)) for column in COLUMNS]


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _keys(rows: pd.DataFrame) -> set[tuple[str, ...]]:
    return set(rows[list(_KEY)].itertuples(index=False, name=None))
