"""Measure how passes, time and memory grow: see conf/bench/scaling.yaml."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from omegaconf import DictConfig

from supermix_pl.arguments import check_at_least
from supermix_pl.experiments.bench import memory
from supermix_pl.experiments.bench.cost import NOTE, mix_batches
from supermix_pl.experiments.bench.program import Result, Settings, check_sets, run, tracked
from supermix_pl.experiments.bench.scaling.picture import draw
from supermix_pl.experiments.bench.scaling.series import VARIABLES, Point, points
from supermix_pl.experiments.opening import open_subject
from supermix_pl.experiments.shared.mixers import as_call
from supermix_pl.experiments.shared.statistics import mean_cell, median_cell
from supermix_pl.experiments.shared.subject import Subject
from supermix_pl.experiments.shared.table import Notes, Part, Table

_MEMORY_STEPS = 2  # batches only shrink, so the peak is in the first rounds
_COLUMNS = ("mixer", "sets", "holds %", "forwards / set", "backwards / set", "ms / set", "peak MiB")
_NOTES = (
    "Every series passes through one common setting, and only the named variable changes: points of a series compare.",
    "Passes: mean ± standard deviation over the seeds. Times: median (least - most), of whole calls of the mixer.",
    f"Peak: {memory.MEANING}",
    "Sigma grows with the masks, so that updates keep their width on the image. Elsewhere each has masks of its own.",
)


@dataclass(frozen=True, kw_only=True)
class ScalingSettings(Settings):
    """See conf/bench/scaling.yaml."""

    LEAST = {"k": 2, "mask_size": 1, "batch": 2, "size": 16, "seeds": 0, "max_steps": 1}
    CHOICES = {"vary": tuple(VARIABLES)}

    vary: list[str]
    k: list[int]
    mask_size: list[int]
    batch: list[int]
    size: list[int]
    sets: int
    max_steps: int
    seeds: list[int]

    def check(self) -> None:
        """Check what hangs together."""
        check_at_least("bench.sets", self.sets, max(self.k if "k" in self.vary else [2]))
        for batch in self.batch if "batch" in self.vary else ():
            check_sets(max(self.sets, batch), batch, 2)


def measure(config: DictConfig, settings: ScalingSettings) -> Result:
    """Measure memory point by point, then times in turns: all points once a seed, in an order that rotates."""
    most = max(settings.sets, *(settings.batch if "batch" in settings.vary else [0]))
    subject = open_subject(config, num_images=most)
    paper = replace(subject.supermix, max_steps=settings.max_steps)
    found = [each for name in settings.vary for each in points(paper, name, getattr(settings, name), settings.sets)]
    for point in tracked(found, "peak memory"):
        images = point.batches(subject)[0][0].clone()
        short = replace(point.mixer, max_steps=_MEMORY_STEPS, classes="teacher")
        point.peak = memory.peak_of(subject.teacher, images, short, seed=settings.seeds[0])
    for turn, seed in enumerate(settings.seeds):
        start = turn * len(found) // len(settings.seeds)
        for point in tracked([*found[start:], *found[:start]], f"seed {seed}"):
            _time(point, subject, seed)
    return Result(
        name=f"{subject.data}_{'_'.join(settings.vary)}",
        title=f"Scaling of the solvers: {subject.title}",
        remark="All took turns in one process. Passes do not depend on the machine; compare times of one file only.",
        tables=tables(found),
        content={"rows": [_row(point) for point in found]},
        seeds=settings.seeds,
        device=subject.images.device,
        figure=draw(found, subject.title),
    )


def _time(point: Point, subject: Subject, seed: int) -> None:
    batches = point.batches(subject)
    short = replace(point.mixer, max_steps=1)
    mix_batches(short, subject, batches[:1], seed=seed)  # sets the libraries up
    point.costs.append(mix_batches(point.mixer, subject, batches, seed=seed))


def tables(found: Sequence[Point]) -> list[Part]:
    """Lay out a table a variable."""
    laid: list[Part] = []
    for variable in dict.fromkeys(point.variable for point in found):
        cells = [
            (
                str(point.value),
                point.name,
                str(point.sets),
                mean_cell(point.values("holds"), 1, 100),
                mean_cell(point.values("forwards_per_attempted"), 1),
                mean_cell(point.values("backwards_per_attempted"), 1),
                median_cell(point.values("ms_per_attempted"), 1),
                f"{point.peak / 2**20:.1f}",
            )
            for point in found
            if point.variable == variable
        ]
        columns = (variable, *_COLUMNS)
        laid.append(Table(title=f"Against {VARIABLES[variable]}", columns=columns, sections=(tuple(cells),), names=2))
    calls = dict.fromkeys(f"{point.name}: {as_call(point.mixer)}" for point in found[:2])
    return [*laid, Notes(lines=(*_NOTES, NOTE, f"Solvers of the first point: {'; '.join(calls)}."))]


def _row(point: Point) -> dict[str, object]:
    seeds = [asdict(cost) | cost.numbers() for cost in point.costs]
    return {
        "variable": point.variable,
        "value": point.value,
        "mixer": point.name,
        "call": as_call(point.mixer),
        "batch_size": point.batch_size,
        "peak_bytes": point.peak,
        "seeds": seeds,
    }


def main(overrides: Sequence[str] | None = None) -> None:
    """Measure, print, write and draw."""
    run("scaling", ScalingSettings, measure, overrides)


if __name__ == "__main__":
    main()
