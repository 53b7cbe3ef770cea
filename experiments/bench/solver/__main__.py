"""Measure named mixers: see conf/bench/solver.yaml."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from omegaconf import DictConfig

from supermix_pl import SuperMix
from supermix_pl.experiments.bench.cost import NOTE, Batch, Cost, mix_batches
from supermix_pl.experiments.bench.passes import recorded, replay, timed
from supermix_pl.experiments.bench.program import Result, Settings, check_sets, named, run, tracked
from supermix_pl.experiments.opening import open_subject
from supermix_pl.experiments.shared.mixers import MEANING, PAPER, as_call, named_mixers
from supermix_pl.experiments.shared.statistics import mean_cell, median_cell
from supermix_pl.experiments.shared.subject import Subject
from supermix_pl.experiments.shared.table import Notes, Table
from supermix_pl.mixing import Mixer

_COLUMNS = ("mixer", "solved %", "holds %", "forwards / solved set", "forwards / set", "backwards / set", "ms / set")
_COLUMNS = (*_COLUMNS, "m(1-m)", "time over bare passes")


@dataclass(frozen=True, kw_only=True)
class SolverSettings(Settings):
    """See conf/bench/solver.yaml."""

    LEAST = {"seeds": 0}

    sets: int
    batch_size: int
    seeds: list[int]
    changes: list[dict[str, Any]]


@dataclass(kw_only=True)
class Row:
    """A mixer.

    Attributes:
        mixer: Makes the mixes.
        costs: One a seed.
        overheads: Time of a call over that of its passes alone; one a seed.
    """

    mixer: Mixer
    costs: list[Cost] = field(default_factory=list)
    overheads: list[float] = field(default_factory=list)


def measure(config: DictConfig, settings: SolverSettings) -> Result:
    """Let the mixers take turns, seed by seed."""
    check_sets(settings.sets, settings.batch_size, config.mixer.k)
    subject = open_subject(config, num_images=settings.sets)
    rows = {name: Row(mixer=mixer) for name, mixer in mixers(subject, settings.changes).items()}
    batches = subject.batches(settings.batch_size)
    for row in rows.values():
        warm_up(row.mixer, subject, batches[0])
    for seed in settings.seeds:
        for row in tracked(rows.values(), f"seed {seed}"):
            row.costs.append(mix_batches(row.mixer, subject, batches, seed=seed))
            if isinstance(row.mixer, SuperMix) and not subject.teacher.compile:
                row.overheads.append(overhead(row.mixer, subject, batches[0], seed=seed))
    return Result(
        name=f"{subject.data}_{subject.network}_k{subject.supermix.k}",
        title=f"Mixers: {subject.title}, k = {subject.supermix.k}",
        remark="All mixers took turns in one process. Passes do not depend on the machine, times do.",
        tables=[table(rows), Notes(lines=notes(rows))],
        content={
            "rows": [
                {"mixer": name, "call": as_call(row.mixer), "overheads": row.overheads}
                | {"seeds": [asdict(cost) | cost.numbers() for cost in row.costs]}
                for name, row in rows.items()
            ]
        },
        seeds=settings.seeds,
        device=subject.images.device,
    )


def mixers(subject: Subject, changes: Sequence[dict[str, Any]]) -> dict[str, Mixer]:
    """Return all mixers by name."""
    found: dict[str, Mixer] = {**named_mixers(subject.supermix)}
    for each in changes:
        found[f"{PAPER}, {named(each)}"] = replace(subject.supermix, **each)
    return found


def warm_up(mixer: Mixer, subject: Subject, batch: Batch) -> None:
    """Let the libraries set themselves up."""
    short = replace(mixer, max_steps=2) if isinstance(mixer, SuperMix) else mixer
    mix_batches(short, subject, [batch], seed=0)


def overhead(mixer: SuperMix, subject: Subject, batch: Batch, *, seed: int) -> float:
    """Return the time of a call over that of its teacher passes alone, each replayed as it was made."""
    images, labels = batch[0], batch[1] if mixer.takes_labels else None
    with recorded(subject.teacher, images) as passes:
        mix = mixer(subject.teacher, images, labels, seed=seed)
    counted = sum(made.rows for made in passes), sum(made.rows for made in passes if made.backward)
    if counted != (mix.teacher_forwards, mix.teacher_backwards):
        raise RuntimeError(f"expected {mix.teacher_forwards} and {mix.teacher_backwards} passes, got {counted}")
    _, seconds = timed(lambda: mixer(subject.teacher, images, labels, seed=seed), images.device)
    prepared = subject.teacher.prepare(images)
    _, bare = timed(lambda: replay(subject.teacher.network(prepared), prepared, passes), images.device)
    return seconds / bare


def table(rows: dict[str, Row]) -> Table:
    """Lay the mixers out."""
    found = []
    for name, row in rows.items():
        numbers = [cost.numbers() for cost in row.costs]
        values = {key: [each[key] for each in numbers] for key in numbers[0]}
        found.append(
            (
                name,
                mean_cell(values["solved_fraction"], 1, 100),
                mean_cell(values["holds"], 1, 100),
                mean_cell(values["forwards_per_solved"], 1),
                mean_cell(values["forwards_per_attempted"], 1),
                mean_cell(values["backwards_per_attempted"], 1),
                median_cell(values["ms_per_attempted"], 1),
                mean_cell(values["mask_softness"], 3),
                median_cell(row.overheads, 3),
            )
        )
    return Table(title="What mixers solve, and at what cost", columns=_COLUMNS, sections=(tuple(found),))


def notes(rows: dict[str, Row]) -> tuple[str, ...]:
    """Return what must be said of the table."""
    written = "; ".join(f"{name}: {as_call(row.mixer)}" for name, row in rows.items())
    spread = "Mean ± standard deviation over the seeds; of times the median (least - most)."
    bare = "Bare passes: those of the same call, without the solver, of the first batch."
    return NOTE, MEANING, spread, bare, f"Rows: {written}."


def main(overrides: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    run("solver", SolverSettings, measure, overrides)


if __name__ == "__main__":
    main()
