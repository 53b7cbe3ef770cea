"""How many sets are solved, and at how many teacher passes."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from supermix_pl import FrozenTeacher, MixedBatch, SuperMix
from supermix_pl.experiments.bench.passes import timed
from supermix_pl.experiments.bench.tables import Summary, Table, Target, mean_cell, median_cell
from supermix_pl.mixing.presenting import holds
from supermix_pl.views import Transform

_OPTIONS = {
    "default": SuperMix(),
    "saliency": SuperMix(init="saliency"),
    "bounded": SuperMix(max_logit_step=2.0),
    "margin": SuperMix(objective="margin", max_logit_step=2.0),
    "combined": SuperMix(init="saliency", objective="margin", max_logit_step=2.0),
}
ROWS: dict[str, SuperMix] = {
    f"{name}-{cap}": dataclasses.replace(mixer, max_steps=cap) for name, mixer in _OPTIONS.items() for cap in (50, 10)
} | {"newton-50": SuperMix(update_rule="newton"), "sgd-50": SuperMix(update_rule="sgd")}
"""The solver's options at two caps, and the paper's baselines at one."""

TARGETS: dict[str, dict[str, Target]] = {
    "default-50": {
        "solved_share": Target(what="solved", limit=0.76, at_least=True),
        "forwards_a_solved_set": Target(what="forwards a solved set", limit=26.0),
    },
    "default-10": {"solved_share": Target(what="solved", limit=0.51, at_least=True)},
}

_NOTES = (
    "All numbers are of the sets of k different classes (the teacher's).",
    (
        "Forwards: all rounds that these sets took part in, solved or not, and one label forward of the image in "
        "column 0 of each; 'a solved set' divides the sum by the solved ones."
    ),
    (
        "Backwards: the rounds that a set took part in and that ended in a gradient (the one in which it ended itself, "
        "too, where other sets of its batch went on), and with init='saliency' one more."
    ),
    (
        "ms: the wall time of the whole call, times these sets' part of all teacher passes, a solved set. m(1-m): the "
        "mean over the masks of the solved sets."
    ),
    "Mean ± standard deviation over the seeds; of ms the median (least - most). A target is for the mean.",
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A row with one seed, of the sets of k different classes.

    Args:
        seed: Of the mixing weights.
        sets: All sets, those of repeated classes too.
        attempted: Sets of k different classes.
        solved: How many of them show the teacher their classes, in exactly what was given.
        forwards: Teacher forwards of the attempted sets, those that give the classes of their images included.
        backwards: Input gradients of the attempted sets.
        seconds: Their part of the wall time.
        softness: m(1-m), summed over the solved sets.
    """

    seed: int
    sets: int
    attempted: int
    solved: int
    forwards: int
    backwards: int
    seconds: float
    softness: float

    def numbers(self) -> dict[str, float | None]:
        """Give what the table shows; None where nothing was attempted or solved."""
        return {
            "solved_share": _ratio(self.solved, self.attempted),
            "forwards_a_solved_set": _ratio(self.forwards, self.solved),
            "forwards_an_attempted_set": _ratio(self.forwards, self.attempted),
            "backwards_an_attempted_set": _ratio(self.backwards, self.attempted),
            "ms_a_solved_set": _ratio(1000 * self.seconds, self.solved),
            "ms_an_attempted_set": _ratio(1000 * self.seconds, self.attempted),
            "mask_softness": _ratio(self.softness, self.solved),
        }


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """A row with every seed."""

    name: str
    mixer: SuperMix
    trials: list[Trial]

    def values(self, number: str) -> list[float | None]:
        """Give one number of every seed."""
        return [trial.numbers()[number] for trial in self.trials]

    def mean(self, number: str) -> float | None:
        """Average one number over the seeds."""
        summary = Summary.of(self.values(number))
        return None if summary is None else summary.mean

    def verdicts(self) -> list[str]:
        """Say which targets are met."""
        return [target.verdict(self.mean(number)) for number, target in TARGETS.get(self.name, {}).items()]


def run_trial(
    mixer: SuperMix,
    teacher: FrozenTeacher,
    batches: Sequence[Float[Tensor, "_ c h w"]],
    *,
    seed: int,
    view: Transform | None = None,
) -> Trial:
    """Mix every batch once and count; with a view, those sets that hold under it."""
    parts = []
    for number, images in enumerate(batches):
        mix, seconds = timed(lambda i=images, n=number: mixer(teacher, i, seed=(seed, n), view=view), images.device)
        parts.append(count(mix, mixer, seconds, seed))
    totals = {field: sum(getattr(part, field) for part in parts) for field in Trial.__dataclass_fields__}
    return Trial(**totals | {"seed": seed})


def count(mix: MixedBatch, mixer: SuperMix, seconds: float, seed: int) -> Trial:
    """Count what the sets of k different classes of a batch cost and gave."""
    forwards, backwards = set_passes(mix, mixer)
    attempted = different_classes(mix.source_classes, mixer.k)
    solved = attempted & accepted(mix)
    softness = (mix.masks * (1 - mix.masks)).mean(dim=(1, 2, 3))
    passes = forwards + backwards
    return Trial(
        seed=seed,
        sets=len(mix),
        attempted=int(attempted.sum()),
        solved=int(solved.sum()),
        forwards=int(forwards[attempted].sum()),
        backwards=int(backwards[attempted].sum()),
        seconds=seconds * int(passes[attempted].sum()) / int(passes.sum()),
        softness=float(softness[solved].double().sum()),
    )


def different_classes(source_classes: Int[Tensor, "b j"], k: int) -> Bool[Tensor, " b"]:
    """Tell which sets have k sources of k different classes."""
    ordered = source_classes.sort(dim=1).values
    different = (ordered.diff(dim=1) > 0).all(dim=1)
    return different if ordered.shape[1] == k else torch.zeros_like(different)


def accepted(mix: MixedBatch) -> Bool[Tensor, " b"]:
    """Tell which mixes show the teacher the classes of their set, in exactly the images that they come with."""
    assert mix.teacher_logits is not None
    return holds(mix, mix.teacher_logits)


def set_passes(mix: MixedBatch, mixer: SuperMix) -> tuple[Int[Tensor, " b"], Int[Tensor, " b"]]:
    """Share the teacher's passes of a batch out to its sets; those that only label what is shown are left out.

    A set that ends after T steps, at the first test that it passes, was in T + 1 rounds, each a forward. All rounds of
    a batch but the last end in a gradient, of every set that is in them. Where all sets take T steps there are T
    rounds, each with a gradient.

    Raises:
        RuntimeError: If that is not how the solver counted.
    """
    rounds = mix.num_steps + bool(mixer.early_stop)
    gradients = rounds.clamp_max(int(mix.num_steps.max()))
    natural_forwards = mix.teacher_forwards - mix.label_forwards - int(rounds.sum())
    natural_backwards = mix.teacher_backwards - int(gradients.sum())
    if natural_forwards not in (0, len(mix)) or natural_backwards not in (0, len(mix)):
        raise RuntimeError(
            "expected at most one label forward and one gradient an image beside the solver's rounds, got "
            f"{natural_forwards} and {natural_backwards} for {len(mix)} images; the solver counts its passes in "
            "another way than this benchmark: bring set_passes up to date"
        )
    return rounds + natural_forwards // len(mix), gradients + natural_backwards // len(mix)


def table(results: Sequence[Acceptance]) -> Table:
    """Lay the rows out, with their targets."""
    rows = [
        (
            result.name,
            mean_cell([None if share is None else 100 * share for share in result.values("solved_share")], 1),
            mean_cell(result.values("forwards_a_solved_set"), 1),
            mean_cell(result.values("forwards_an_attempted_set"), 1),
            mean_cell(result.values("backwards_an_attempted_set"), 1),
            median_cell(result.values("ms_a_solved_set"), 1),
            mean_cell(result.values("mask_softness"), 3),
            "; ".join(result.verdicts()) or "-",
        )
        for result in results
    ]
    columns = ("row", "solved %", "forwards / solved set", "forwards / attempted set")
    columns = (*columns, "backwards / attempted set", "ms / solved set", "m(1-m)", "target")
    attempted = sorted({(trial.attempted, trial.sets) for result in results for trial in result.trials})
    counts = ", ".join(f"{part} of {whole}" for part, whole in attempted)
    mixers = "; ".join(f"{result.name}: {shown(result.mixer)}" for result in results)
    notes = (f"Rows: {mixers}.", f"Sets of k different classes: {counts}.", *_NOTES)
    return Table(title="Acceptance and passes", columns=columns, rows=rows, notes=notes)


def shown(mixer: SuperMix) -> str:
    """Write a mixer as the call that makes it, without its defaults."""
    changed = [
        f"{field.name}={getattr(mixer, field.name)!r}"
        for field in dataclasses.fields(mixer)
        if getattr(mixer, field.name) != field.default
    ]
    return f"SuperMix({', '.join(changed)})"


def _ratio(part: int | float, whole: int) -> float | None:
    return part / whole if whole else None
