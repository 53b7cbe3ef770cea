"""Mixes after some rounds of one run of a mixer, what they cost until then, and how they fare under views."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from supermix_pl import FrozenTeacher, MixedBatch, SuperMix
from supermix_pl.mixing import BlindMixer
from supermix_pl.mixing.assembly import assemble
from supermix_pl.mixing.checks import check_images, generator
from supermix_pl.mixing.drawn import DrawnSets
from supermix_pl.mixing.natural import NaturalPass, float_autograd
from supermix_pl.mixing.presenting import numbers
from supermix_pl.mixing.sampling import draw_keys, draw_sources, draw_weights
from supermix_pl.mixing.views import Viewer
from supermix_pl.solver import Outcome, SolverState, advance
from supermix_pl.solver.criterion import class_membership, margin
from supermix_pl.solver.masks import normalized_masks
from supermix_pl.teacher.passes import Chunks, show
from supermix_pl.transforms import View

_FIRST_FRESH_LOOK = 2**20  # no round of a solver has this number
_AT_ONCE = 128


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """Mixes after some rounds.

    Args:
        rounds: How many; steps at most, where sets may end early.
        mix: What a mixer with that limit gives, before the teacher labels it.
        keys: Name the stream of chance of each set.
        solved_on: Parameters of the views that each set was solved on; None for the exact pixels.
    """

    rounds: int
    mix: MixedBatch
    keys: Int[Tensor, " b"]
    solved_on: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Looks:
    """What the teacher says of mixes under v fresh views each.

    Args:
        images: The views.
        logits: The teacher's.
        holds: Whether its top classes are those of the set.
        fresh: Whether the set was not solved on that very view: of small images there are few.
        probability: Of the set's classes together.
    """

    images: Float[Tensor, "b v c h w"]
    logits: Float[Tensor, "b v n"]
    holds: Bool[Tensor, "b v"]
    fresh: Bool[Tensor, "b v"]
    probability: Float[Tensor, "b v"]

    @property
    def share(self) -> float:
        """The share that holds of the views that were not solved on."""
        return float(self.holds[self.fresh].double().mean())


def snapshots(
    mixer: SuperMix | BlindMixer,
    teacher: FrozenTeacher,
    images: Float[Tensor, "b c h w"],
    labels: Int[Tensor, " b"] | None,
    *,
    seed: Sequence[int],
    rounds: Sequence[int],
    view: View,
) -> list[Snapshot]:
    """Solve the sets of a batch once, and keep what a mixer with each of several `max_steps` would give.

    Args:
        mixer: How; its own `max_steps` does not count. One that does not look gives the same mixes after all rounds.
        teacher: Supervises.
        images: Normalised.
        labels: For a mixer that takes the classes from them.
        seed: Names the batch's stream of chance; the same one gives the mixer's own mixes.
        rounds: The limits, rising.
        view: What the mixes are to be shown under.
    """
    if isinstance(mixer, BlindMixer):
        mix = mixer(teacher, images, labels, seed=seed)
        keys = torch.from_numpy(draw_keys(generator([*seed, 1]), len(mix))).to(images.device)
        return [Snapshot(rounds=number, mix=mix, keys=keys) for number in rounds]
    rng, images = generator(seed), check_images(images)
    with float_autograd(images.device):
        natural, classes = mixer.look(teacher, images, labels)
        sources = draw_sources(rng, len(images), mixer.k, mixer.pairing, classes.cpu().numpy())
        weights, keys = draw_weights(rng, len(images), mixer.k, mixer.alpha), draw_keys(rng, len(images))
        drawn, start = mixer.draw(images, natural, classes, sources, weights, keys)
        solver, sets = replace(mixer.solver, max_steps=rounds[-1]), drawn.sets
        state, solving_view = SolverState.start(sets, start), mixer.solving_view(view, images)
        viewer, chunks = Viewer(solving_view, (*numbers(seed), 0)), Chunks(teacher, mixer.chunk_size)
        found = []
        for number in range(rounds[-1] + solver.early_stop):
            left = state.running.nonzero().squeeze(1)
            if len(left):
                moved, _, _ = advance(solver, teacher, sets.take(left), state.take(left), viewer, chunks)
                state.put(left, moved)
            done = number + (not solver.early_stop)  # the masks that may be kept have had so many steps
            if done in rounds:
                found.append(_snapshot(mixer, drawn, natural, state, done, solving_view))
    return found


def _snapshot(
    mixer: SuperMix,
    drawn: DrawnSets,
    natural: NaturalPass,
    state: SolverState,
    rounds: int,
    solving_view: object,
) -> Snapshot:
    size = (drawn.sources.shape[3], drawn.sources.shape[4])
    logits, _ = mixer.settle(state.best_mask_logits, drawn.mix_weights, state.outcomes)
    steps = torch.where(state.running, rounds, state.num_steps)
    forwards = backwards = rounds * len(steps)
    if mixer.early_stop:  # the rounds of a batch but the last end in a gradient, of every set that is in them
        forwards = int((steps + 1).sum())
        backwards = int((steps + 1).clamp_max(int(steps.max())).sum())
    mix = assemble(
        drawn,
        normalized_masks(logits, size),
        teacher_logits=None,
        outcomes=torch.where(state.outcomes == Outcome.NON_FINITE, Outcome.NON_FINITE, Outcome.CAPPED),
        num_steps=steps,
        natural=natural,
        teacher_forwards=natural.forwards + forwards,
        teacher_backwards=natural.backwards + backwards,
    )
    solved_on = None
    if isinstance(solving_view, View):
        looks = [solving_view.draw(drawn.keys, torch.full_like(drawn.keys, each), size) for each in range(rounds)]
        solved_on = torch.stack(looks, dim=1)
    return Snapshot(rounds=rounds, mix=mix, keys=drawn.keys, solved_on=solved_on)


@torch.no_grad()
def look(snapshot: Snapshot, teacher: FrozenTeacher, view: View, count: int) -> Looks:
    """Show mixes under views that are drawn anew; these passes are no part of what the mixes cost.

    Args:
        snapshot: The mixes.
        teacher: Looks.
        view: As the student sees them.
        count: Views of each mix, >= 1.
    """
    mix, keys = snapshot.mix, snapshot.keys
    size = (mix.images.shape[2], mix.images.shape[3])
    found = []
    for number in range(count):
        parameters = view.draw(keys, torch.full_like(keys, _FIRST_FRESH_LOOK + number), size)
        shown = view.apply(mix.images, parameters)
        logits = show(teacher, shown, _AT_ONCE)
        membership = class_membership(mix.source_classes, logits.shape[1])
        fresh = torch.ones_like(membership[:, 0])
        if snapshot.solved_on is not None and snapshot.solved_on.shape[2:] == parameters.shape[1:]:
            fresh = (snapshot.solved_on != parameters[:, None]).any(dim=2).all(dim=1)
        probability = (logits.softmax(dim=1) * membership).sum(dim=1)
        found.append((shown, logits, margin(logits, membership) > 0, fresh, probability))
    images, logits, holds, fresh, probability = (torch.stack(each, dim=1) for each in zip(*found, strict=True))
    return Looks(images=images, logits=logits, holds=holds, fresh=fresh, probability=probability)
