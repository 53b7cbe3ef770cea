"""What mixers solve, what holds, and what that costs: see conf/bench/solver.yaml."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from omegaconf import DictConfig

from supermix_pl import SuperMix
from supermix_pl.arguments import check_one_of
from supermix_pl.experiments.bench.cost import NOTE, Batch, Cost, mix_batches, numbers
from supermix_pl.experiments.bench.program import Result, Settings, check_sets, named, run, tracked
from supermix_pl.experiments.opening import open_subject
from supermix_pl.experiments.shared.mixers import BLIND, FAST, MEANING, as_call, fast, named_mixers
from supermix_pl.experiments.shared.palette import line
from supermix_pl.experiments.shared.render import Notes, Table
from supermix_pl.experiments.shared.statistics import mean_cell, median_cell
from supermix_pl.experiments.shared.subject import Subject
from supermix_pl.mixing import Mixer
from supermix_pl.solver.saliency import input_saliency

_COLUMNS = ("mixer", "rounds", "solved %", "holds %", "forwards / solved set", "forwards / set", "backwards / set")
_COLUMNS = (*_COLUMNS, "ms / set", "m(1-m)", "saliency kept")
_NOTES = (
    "Rounds: most steps of a set. Mean ± standard deviation over the seeds; of times the median (least - most).",
    "Views are drawn anew; of small images there are few, and one in some may be among those that were solved on.",
    (
        "Saliency kept: a source's |image x input gradient of the logit of its own class|, summed over the channels, "
        "as shares s_i of their sum; m_i s_i summed over the pixels, averaged over the sources. By chance it is 1/k."
    ),
)

_LEGEND = 5
_PANELS = {
    "forwards_per_attempted": "teacher forwards a mix: natural image and rounds",
    "softness_of_all": "m(1-m), 0 for binary masks",
    "saliency_kept": "saliency kept (masks at random: 1/k)",
}


@dataclass(kw_only=True)
class Row:
    """A mixer."""

    name: str
    mixer: Mixer
    rounds: int | None = None  # most steps of a set; None of one that takes none
    costs: list[Cost] = field(default_factory=list)  # one a seed

    def values(self, number: str) -> list[float | None]:
        """Return one number of every seed."""
        return [numbers(cost)[number] for cost in self.costs]


@dataclass(frozen=True, kw_only=True)
class SolverSettings(Settings):
    """See conf/bench/solver.yaml."""

    LEAST = {"seeds": 0}

    split: str
    sets: int
    batch_size: int
    seeds: list[int]
    rounds: list[int]
    changes: list[dict[str, Any]]

    def check(self) -> None:
        check_one_of("bench.split", self.split, ("train", "test"))
        if any(each < 1 for each in self.rounds):
            raise ValueError(f"expected bench.rounds with numbers >= 1, got {self.rounds}")
        if self.rounds and any("max_steps" in each for each in self.changes):
            raise ValueError("expected bench.changes but max_steps, which bench.rounds varies")


def measure(config: DictConfig, settings: SolverSettings) -> Result:
    """Let the mixers take turns, seed by seed."""
    check_sets(settings.sets, settings.batch_size, config.mixer.k)
    subject = open_subject(config, num_images=settings.sets, split=settings.split)
    rows = rows_of(subject.supermix, settings.changes, settings.rounds)
    batches = subject.batches(settings.batch_size)
    given = [labels if subject.supermix.takes_labels else None for _, labels in batches]
    saliency = [
        input_saliency(subject.teacher, images, labels)[1] for (images, _), labels in zip(batches, given, strict=True)
    ]
    for row in rows:
        warm_up(row.mixer, subject, batches[0])
    for seed in settings.seeds:
        for row in tracked(rows, f"seed {seed}"):
            row.costs.append(mix_batches(row.mixer, subject, batches, seed=seed, saliency=saliency))
    title = f"{subject.title}, k = {subject.supermix.k}, {settings.split} images"
    return Result(
        name=f"{subject.data}_{subject.network}_k{subject.supermix.k}",
        title=f"Mixers: {title}",
        remark="All mixers took turns in one process. Passes do not depend on the machine, times do.",
        tables=[table(rows), Notes(lines=notes(rows, subject))],
        content={
            "rows": [
                {"mixer": row.name, "rounds": row.rounds, "call": as_call(row.mixer)}
                | {"seeds": [{**cost, **numbers(cost)} for cost in row.costs]}
                for row in rows
            ]
        },
        seeds=settings.seeds,
        device=subject.images.device,
        figure=draw(rows, f"{title}, {settings.sets} sets"),
    )


def rows_of(paper: SuperMix, changes: Sequence[dict[str, Any]], rounds: Sequence[int]) -> list[Row]:
    """Return the named mixers and the changes of SuperMix.fast; what makes no difference is left out."""
    found: dict[str, Mixer] = {**named_mixers(paper)}
    for each in changes:
        mixer = fast(paper, **each)
        if mixer not in found.values():
            found[f"{FAST}, {named(each)}"] = mixer
    rows = []
    for name, mixer in found.items():
        if isinstance(mixer, SuperMix):
            limits = sorted(set(rounds)) or [mixer.max_steps]
            rows += [Row(name=name, mixer=replace(mixer, max_steps=limit), rounds=limit) for limit in limits]
        else:
            rows.append(Row(name=name, mixer=mixer))
    return rows


def warm_up(mixer: Mixer, subject: Subject, batch: Batch) -> None:
    """Let the libraries set themselves up."""
    short = replace(mixer, max_steps=min(2, mixer.max_steps)) if isinstance(mixer, SuperMix) else mixer
    mix_batches(short, subject, [batch], seed=0)


def table(rows: Sequence[Row]) -> Table:
    """Lay the mixers out."""
    means = {"solved_fraction": (1, 100), "holds": (1, 100), "forwards_per_solved": (1,)}
    means |= {"forwards_per_attempted": (1,), "backwards_per_attempted": (1,)}
    found = [
        (
            row.name,
            "-" if row.rounds is None else str(row.rounds),
            *(mean_cell(row.values(name), *form) for name, form in means.items()),
            median_cell(row.values("ms_per_attempted"), 1),
            *(mean_cell(row.values(name), 3) for name in ("softness_of_all", "saliency_kept")),
        )
        for row in rows
    ]
    return Table(title="What mixers solve, and at what cost", columns=_COLUMNS, rows=found)


def notes(rows: Sequence[Row], subject: Subject) -> tuple[str, ...]:
    """Return what must be said of the table."""
    written = "; ".join({row.name: f"{row.name}: {as_call(row.mixer)}" for row in rows}.values())
    return NOTE, MEANING, f"Views: {subject.view}.", *_NOTES, f"Rows, with the most rounds: {written}."


def draw(rows: Sequence[Row], title: str) -> Figure:
    """Draw all mixers, the seeds averaged: a curve is a mixer under all limits on its steps."""
    names = list(dict.fromkeys(row.name for row in rows))
    figure = Figure(figsize=(16, 5.4 + 0.2 * len(names) / _LEGEND), layout="constrained")
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    for place, name in enumerate(names):
        mine = [row for row in rows if row.name == name]
        style = line(place)
        shares = [100 * _mean(row, "holds") for row in mine]
        for axes, number in zip(panels, _PANELS, strict=True):
            if name in BLIND and axes is panels[0]:
                axes.axhline(shares[0], linestyle=":", color=style["color"], zorder=1)
            else:
                axes.plot([_mean(row, number) for row in mine], shares, **style, label=name)
    panels[0].set(ylabel="holds, % of fresh views", ylim=(0, 102), xlim=(0, None))
    for axes, label in zip(panels, _PANELS.values(), strict=True):
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=_LEGEND, frameon=False)
    figure.suptitle(title)
    return figure


def _mean(row: Row, number: str) -> float:
    known = [value for value in row.values(number) if value is not None]
    return fmean(known) if known else float("nan")


main = partial(run, "solver", measure)

if __name__ == "__main__":
    main()
