"""The stream of a solving mixer: what it asks of the teacher, how often it shows a set, and of what images sets are."""

import copy
import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supermix_pl import FrozenTeacher, MixUp, SuperMix
from supermix_pl.engine import Run, StreamEngine
from supermix_pl.engine.stream.timing import PassTimes
from supermix_pl.mixing import FunctionMixer
from supermix_pl.solver import Outcome
from supermix_pl.solver.criterion import class_membership, margin
from supermix_pl.solver.masks import mix_images
from supermix_pl.transforms import RandomCropFlip
from tests.engine.streams import (
    EARLY,
    EXACT,
    FAST,
    ROUNDS,
    SIZE,
    VIEWED,
    batch_of,
    counting_teacher,
    named_batch,
    names_of,
    odd_sizes,
    run,
    teacher_of,
)
from tests.problems import NUM_CLASSES, BlindToMarked, FlatTeacher, SmoothTeacher, mark, natural_images

SLOW = pytest.mark.slow
unchecked = pytest.mark.usefixtures("unchecked")  # many steps: the checks would take most of the time


# What is asked for is what is measured


@pytest.mark.parametrize(
    ("reuse", "odd"),
    [(2, True), *(pytest.param(*case, marks=SLOW) for case in ((12, False), (2, False), (12, True), (40, True)))],
)
@unchecked
def test_uses_asked_for_are_uses_measured(reuse: int, odd: bool) -> None:
    sizes = list(odd_sizes(300)) if odd else None
    ran = run(StreamEngine(reuse=reuse), 300, sizes=sizes)
    assert ran.metrics[-1]["uses"] == pytest.approx(reuse, rel=0.1)
    # The same by what was shown: each set that entered has weights of its own
    shown = Counter(name for mix in ran.mixes for name in names_of(mix))
    ended = sum(metrics["fresh"] for metrics in ran.metrics)
    assert shown.total() / ended == pytest.approx(reuse, rel=0.1)
    assert ended <= len(shown) * 1.1
    assert len(shown) <= ended + ran.engine.plan.slots  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("reuse", [4, pytest.param(12, marks=SLOW)])
@unchecked
def test_uses_of_sets_that_end_early_follow_what_they_take(reuse: int) -> None:
    ran = run(StreamEngine(reuse=reuse), 300, EARLY)
    assert ran.metrics[-1]["uses"] == pytest.approx(reuse, rel=0.1)
    steps = torch.cat([mix.num_steps for mix in ran.mixes[100:]])
    assert len(steps.unique()) > 4


@pytest.mark.parametrize(
    ("options", "visits", "replays", "odd"),
    [
        ({"reuse": 12}, 1, 0.5, True),
        pytest.param({"reuse": 3}, 4, 0, False, marks=SLOW),
        ({"reuse": 12, "show_from": 12}, 1, 1, True),
        pytest.param({"reuse": 24, "show_from": 3}, 0.5, 1 - 0.5 * 0.75, False, marks=SLOW),
        pytest.param({"reuse": 12}, 1, 0.5, False, marks=SLOW),
        pytest.param({"reuse": 24}, 0.5, 0.75, True, marks=SLOW),
        pytest.param({"reuse": 3}, 4, 0, True, marks=SLOW),
        pytest.param({"reuse": 12, "show_from": 0}, 1, 0, True, marks=SLOW),
        pytest.param({"reuse": 12, "show_from": 12}, 1, 1, False, marks=SLOW),
        pytest.param({"reuse": 24, "show_from": 3}, 0.5, 1 - 0.5 * 0.75, True, marks=SLOW),
        pytest.param({"reuse": 12, "slots": 40}, 1, 0.5, False, marks=SLOW),
    ],
)
@unchecked
def test_forwards_and_backwards_a_shown_mix(options: dict[str, Any], visits: float, replays: float, odd: bool) -> None:
    counting, teacher = counting_teacher()
    engine = StreamEngine(**options)
    asked: list[tuple[int, int]] = []

    def watch(step: int, mix: Any) -> None:
        assert (counting.forwards, counting.backwards) == (mix.teacher_forwards, mix.teacher_backwards)
        assert mix.teacher_forwards - mix.label_forwards >= mix.teacher_backwards
        asked.append((counting.forwards, mix.label_forwards))
        counting.forwards = counting.backwards = 0

    sizes = list(odd_sizes(160)) if odd else None
    ran = run(engine, 160, VIEWED, teacher, watch=watch, sizes=sizes)
    late = ran.mixes[40:]
    shown = sum(len(mix) for mix in late)
    backwards = sum(mix.teacher_backwards for mix in late) / shown
    labels = sum(mix.label_forwards for mix in late) / shown
    forwards = sum(count for count, _ in asked[40:]) / shown
    assert backwards == pytest.approx(visits, rel=0.03)
    assert labels == pytest.approx(replays, rel=0.06, abs=0.06 if odd else 0.01)  # small batches may show no visit
    assert forwards - labels - backwards == pytest.approx(1 / options["reuse"], rel=0.1)  # classes of new images


@unchecked
def test_a_step_of_whole_batches_costs_the_same() -> None:
    ran = run(StreamEngine(reuse=12), 60)
    assert len({mix.teacher_backwards for mix in ran.mixes[1:]}) == 1
    assert len({mix.label_forwards for mix in ran.mixes[1:]}) == 1


@pytest.mark.parametrize("show_from", [None, *(pytest.param(age, marks=SLOW) for age in (0, 4, 9))])
@unchecked
def test_visits_are_shown_from_a_set_age_on(show_from: int | None) -> None:
    ran = run(StreamEngine(reuse=12, show_from=show_from), 260)
    first = ROUNDS // 2 if show_from is None else show_from
    steps = torch.cat([mix.num_steps for mix in ran.mixes[200:]])  # the store is larger than the slots by then
    visits = steps[steps < ROUNDS]
    counts = visits.bincount(minlength=ROUNDS).double() / len(visits)
    # As many are shown of each turn: of sets of about this age, where there are not enough of it
    assert counts[:first].sum() <= 0.15
    assert counts[: max(first - 2, 0)].sum() == 0
    assert counts[first:].min() > 0.5 / (ROUNDS - first)
    replays = (steps == ROUNDS).double().mean()
    assert replays == pytest.approx(1 - min(1, (ROUNDS - first) / 12), abs=0.03)


@unchecked
def test_visits_of_a_set_are_as_many_steps_apart_as_there_are_turns_of_the_slots() -> None:
    ran = run(StreamEngine(reuse=12, show_from=0), 150)
    seen: dict[tuple[float, ...], list[int]] = {}
    for step, mix in enumerate(ran.mixes):
        for name, age in zip(names_of(mix), mix.num_steps.tolist(), strict=True):
            if age < ROUNDS:
                seen.setdefault(name, []).append(step)
    whole = [steps for steps in seen.values() if len(steps) == ROUNDS]
    assert len(whole) > 50
    assert {gap for steps in whole for gap in np.diff(steps).tolist()} == {8}


@pytest.mark.parametrize("show_from", [None, pytest.param(12, marks=SLOW)])
@unchecked
def test_sets_that_were_spared_visits_are_not_kept(show_from: int | None) -> None:
    """At the start slots have sets of all ages, so that they do not end together: most of these are half solved."""
    ran = run(StreamEngine(reuse=12, show_from=show_from), 120)
    ended = np.cumsum([metrics["fresh"] for metrics in ran.metrics])
    stored = np.array([metrics["stored"] for metrics in ran.metrics])
    assert ran.engine.plan is not None
    slots = ran.engine.plan.slots
    assert ended[-1] - stored[-1] == pytest.approx(slots * (ROUNDS - 1) / ROUNDS, abs=1)
    assert stored[: 8 * ROUNDS].max() == 0
    solving = ran.engine._state.solving
    assert solving is not None
    steps = solving.store.columns["num_steps"][: len(solving.store)]
    assert steps.tolist() == [ROUNDS] * len(steps)  # pyright: ignore


@unchecked
def test_while_few_sets_are_solved_those_of_the_slots_are_shown_too() -> None:
    ran = run(StreamEngine(reuse=12, show_from=12), 260)
    assert ran.engine.plan is not None
    for mix, metrics in zip(ran.mixes[1:], ran.metrics[1:], strict=True):
        solved = (mix.num_steps == ROUNDS).double().mean()
        if metrics["stored"] < ran.engine.plan.slots:
            share = metrics["stored"] / (metrics["stored"] + ran.engine.plan.slots)
            # in the slots there are also sets that have had their last visit and wait for their turn to leave
            assert share - 0.5 / SIZE - 0.02 <= solved <= share + 0.3
        else:
            assert solved == 1


# Replays


@unchecked
def test_replays_are_spread_over_sets() -> None:
    ran = run(StreamEngine(reuse=24), 400)
    assert ran.engine.plan is not None
    counts = Counter[tuple[float, ...]]()
    for mix, metrics in zip(ran.mixes, ran.metrics, strict=True):
        replayed = [name for name, age in zip(names_of(mix), mix.num_steps.tolist(), strict=True) if age == ROUNDS]
        if metrics["stored"] >= ran.engine.plan.slots:
            assert len(set(replayed)) == len(replayed)  # no set twice in a step
        counts.update(replayed)
    stored = ran.metrics[-1]["stored"]
    mean = counts.total() / stored
    assert 10 < mean < 24
    assert len(counts) > 0.8 * stored
    assert max(counts.values()) < 4 * mean  # the first sets too, though they were alone in the store


@unchecked
def test_every_look_at_a_set_is_another_view() -> None:
    looks: list[tuple[Tensor, Tensor]] = []

    class Watching(RandomCropFlip):
        def draw(self, keys: Tensor, rounds: Tensor, size: tuple[int, int]) -> Tensor:
            looks.append((keys, rounds))
            return super().draw(keys, rounds, size)

    view = Watching(padding=2)
    run(StreamEngine(reuse=24), 100, FAST, view=view)
    pairs = torch.cat([torch.stack(pair, dim=1) for pair in looks])
    assert len(pairs) > 1000
    assert len(pairs.unique(dim=0)) == len(pairs)
    # Of a set that is replayed late or early the views are others: looks of replays are numbered by the step
    assert len(pairs[:, 0].unique()) < len(pairs) / 10


@unchecked
def test_replays_show_the_masks_that_the_sets_ended_with() -> None:
    """On exact pixels a replay has the logits that the final masks have, again and again."""
    ran = run(StreamEngine(reuse=12, default_transform=None), 200, EXACT)
    first: dict[tuple[float, ...], Tensor] = {}
    again = 0
    for mix in ran.mixes:
        for row, name in enumerate(names_of(mix)):
            if mix.num_steps[row] == ROUNDS:
                again += name in first
                expected = first.setdefault(name, mix.images[row])  # masks are kept in half precision
                torch.testing.assert_close(mix.images[row], expected, atol=5e-3, rtol=0)
    assert again > 100
    assert (mix.images - mix_images(sources_of(ran.engine), mix.masks)).abs().max() < 1e-5  # pyright: ignore


def sources_of(engine: StreamEngine) -> Tensor:
    assert engine._state.images is not None
    assert engine._state.places is not None
    return engine._state.images.at(engine._state.places)


def test_what_is_solved_is_what_the_teacher_said_of_the_masks() -> None:
    ran = run(StreamEngine(reuse=4), 110, FAST)
    mix = ran.mixes[-1]
    assert mix.teacher_logits is not None
    assert mix.holds is not None
    holding = margin(mix.teacher_logits, class_membership(mix.source_classes, NUM_CLASSES)) > 0
    assert mix.holds.equal(holding)
    assert mix.holds.any()
    assert mix.outcomes.eq(Outcome.SOLVED).any()
    torch.testing.assert_close(mix.masks.sum(dim=1), torch.ones(SIZE, 8, 8))
    assert mix.source_indices.eq(-1).all()


def test_masks_get_better_with_the_rounds() -> None:
    def batch(step: int, size: int) -> tuple[Tensor, Tensor]:
        return natural_images(size, (8, 8), seed=step, dtype=torch.float32), batch_of(step, size)[1]

    teacher = FrozenTeacher(SmoothTeacher().float())
    late = run(StreamEngine(reuse=12, show_from=0), 90, FAST, teacher, batch=batch).mixes[40:]
    age = torch.cat([mix.num_steps for mix in late])
    holds = torch.cat([mix.holds for mix in late if mix.holds is not None]).double()
    assert holds[age >= 8].mean() > holds[age <= 3].mean() + 0.1


# Images


@pytest.mark.parametrize(
    "mixer",
    [EXACT, *(pytest.param(each, marks=SLOW) for each in (FAST, EARLY, SuperMix.fast(k=3, mask_size=4, max_steps=5)))],
)
@unchecked
def test_sources_are_never_of_the_batch_beside_them_but_in_the_first_step(mixer: SuperMix) -> None:
    engine = StreamEngine(reuse=6, default_transform=None)
    found: list[set[int]] = []

    def watch(step: int, mix: Any) -> None:
        sources = sources_of(engine)
        numbers = sources[:, :, 0, 0, 0].round().long()
        torch.testing.assert_close(mix.images, mix_images(sources, mix.masks), atol=1e-3, rtol=1e-3)
        assert mix.source_classes.equal(teacher(sources.flatten(0, 1)).argmax(dim=1).view(numbers.shape))
        assert all(len(set(row)) == mixer.k for row in numbers.tolist())
        found.append(set(numbers.flatten().tolist()))

    teacher = teacher_of()
    run(engine, 150, mixer, teacher, batch=named_batch, watch=watch, view=None)
    assert found[0] <= set(range(SIZE))
    for step, numbers in enumerate(found[1:], start=1):
        assert max(numbers) < step * SIZE
    assert max(max(numbers) for numbers in found[-30:]) > 20 * SIZE  # new images come in


@pytest.mark.parametrize("mixer", [EXACT, EARLY])
@unchecked
def test_images_come_from_all_places_of_the_batches(mixer: SuperMix) -> None:
    engine = StreamEngine(reuse=4, default_transform=None)
    found: set[int] = set()
    run(
        engine, 150, mixer, batch=named_batch, view=None,
        watch=lambda step, mix: found.update(sources_of(engine)[:, :, 0, 0, 0].long().flatten().tolist()),
    )  # fmt: skip
    places = np.bincount([number % SIZE for number in found if number >= 8 * SIZE], minlength=SIZE)
    assert places.min() > 0.3 * places.mean()
    assert places.max() < 2 * places.mean()


def test_given_labels_are_the_classes_where_the_mixer_takes_them() -> None:
    mixer = SuperMix(mask_size=4, max_steps=4, classes="labels", early_stop=False, max_logit_step=1.0)
    engine = StreamEngine(reuse=4, default_transform=None)

    def watch(step: int, mix: Any) -> None:
        numbers = sources_of(engine)[:, :, 0, 0, 0].round().long()
        assert mix.source_classes.equal(numbers % NUM_CLASSES)

    counting, teacher = counting_teacher()
    teacher(batch_of(0)[0])
    counting.forwards = 0
    ran = run(engine, 30, mixer, teacher, batch=named_batch, watch=watch, view=None)
    assert sum(mix.teacher_forwards for mix in ran.mixes) == counting.forwards
    assert all(mix.teacher_forwards == mix.teacher_backwards + mix.label_forwards for mix in ran.mixes)


@pytest.mark.parametrize("pairing", ["random", "shift", "distinct"])
def test_distinct_sets_have_distinct_classes(pairing: Any) -> None:
    mixer = SuperMix(k=3, mask_size=4, max_steps=4, early_stop=False, pairing=pairing, max_logit_step=1.0)
    ran = run(StreamEngine(reuse=2), 20, mixer)
    classes = torch.cat([mix.source_classes for mix in ran.mixes[5:]])
    distinct = torch.tensor([len(set(row)) == 3 for row in classes.tolist()])
    assert distinct.all() == (pairing == "distinct")


@unchecked
def test_known_logits_of_the_natural_images_spare_their_passes() -> None:
    images = [batch_of(step) for step in range(20)]
    counting, teacher = counting_teacher()
    totals, weights = [], []
    for known in (False, True):
        engine = StreamEngine(reuse=4)
        total = 0
        for step, (batch, labels) in enumerate(images):
            logits = teacher(batch) if known else None
            counting.forwards = 0
            mix = engine.mix(VIEWED, teacher, batch, labels, seed=(0, step), natural_logits=logits)
            assert counting.forwards == mix.teacher_forwards
            total += counting.forwards
            assert not known or mix.teacher_forwards == mix.teacher_backwards + mix.label_forwards
        totals.append(total)
        weights.append(mix.mix_weights)  # pyright: ignore
    assert totals[1] < totals[0]
    assert weights[0].equal(weights[1])


# The store


@unchecked
def test_the_store_keeps_its_bound_and_grows_as_it_fills() -> None:
    bound = 120_000
    engine = StreamEngine(reuse=6, store_bytes=bound)
    found = [metrics["store_bytes"] for metrics in run(engine, 300, FAST).metrics]
    assert max(found) <= bound
    assert found[0] < 0.7 * bound
    assert found[-1] > 0.85 * bound
    assert found == sorted(found)
    assert len(set(found)) >= 3
    assert engine._state.solving is not None
    assert engine._state.images is not None
    held = [*engine._state.images.ring.columns.values(), *engine._state.solving.store.columns.values()]
    assert sum(column.nbytes for column in held) == found[-1]


ENDLESS = SuperMix(mask_size=4, max_steps=40, max_logit_step=0.05)


@pytest.mark.parametrize("mixer", [FAST, pytest.param(EARLY, marks=SLOW), pytest.param(ENDLESS, marks=SLOW)])
@unchecked
def test_sets_die_with_their_images(mixer: SuperMix) -> None:
    """In a small store the oldest images are written over; no set shows the images of others."""
    engine = StreamEngine(reuse=6, store_bytes=60_000, default_transform=None)
    first: dict[tuple[float, ...], Tensor] = {}
    stored: list[float] = []

    def watch(step: int, mix: Any) -> None:
        sources = sources_of(engine)
        numbers = sources[:, :, 0, 0, 0].round().long()
        torch.testing.assert_close(mix.images, mix_images(sources, mix.masks), atol=1e-2, rtol=1e-3)
        assert mix.source_classes.equal(numbers % NUM_CLASSES)
        for row, name in enumerate(names_of(mix)):
            assert first.setdefault(name, numbers[row]).equal(numbers[row])
        stored.append(engine.metrics()["stored"])

    labelled = SuperMix(**{**vars(mixer), "classes": "labels"})
    run(engine, 220, labelled, batch=named_batch, watch=watch, view=None)
    assert engine._state.images is not None
    assert engine._state.images.ring.added > 1.5 * engine._state.images.ring.capacity  # all were written over
    assert engine._state.solving is not None
    assert min(stored[80:]) > 0.3 * engine._state.solving.store.capacity


@pytest.mark.parametrize(
    "options", [{"store_bytes": 1}, {"store_bytes": 20_000}, {"store_bytes": 100_000, "slots": 999}]
)
def test_a_store_that_is_too_small_is_refused_before_anything_is_solved(options: dict[str, int]) -> None:
    counting, teacher = counting_teacher()
    engine = StreamEngine(reuse=6, **options)  # pyright: ignore
    with pytest.raises(
        ValueError, match=r"expected a store that holds the \d+ images of sets .* (\d+) bytes, got"
    ) as said:
        run(engine, 1, FAST, teacher)
    assert counting.forwards == 0
    assert f"store_bytes={options['store_bytes']}; raise it, or give fewer slots" in str(said.value)
    least = int(str(said.value).split(" bytes, got")[0].split()[-1])
    run(StreamEngine(reuse=6, **{**options, "store_bytes": least}), 1, FAST)  # pyright: ignore
    with pytest.raises(ValueError, match="expected a store that holds"):
        run(StreamEngine(reuse=6, **{**options, "store_bytes": least - 1}), 1, FAST)  # pyright: ignore


@pytest.mark.parametrize("reuse", [6, 60])
@pytest.mark.parametrize("mixer", [EXACT, EARLY])
@unchecked
def test_sets_whose_images_were_written_over_are_not_shown(mixer: SuperMix, reuse: int) -> None:
    """In the store as in the slots; with rare turns there may be nothing left, so that a turn is due at once."""
    engine = StreamEngine(reuse=reuse, store_bytes=60_000, default_transform=None)
    known = {name for mix in run(engine, 60, mixer, batch=named_batch, view=None).mixes for name in names_of(mix)}
    assert engine._state.images is not None
    flood = engine._state.images.ring.capacity // SIZE + 1
    for step in range(60, 60 + flood):
        engine._state.images.add(*named_batch(step))
    after = run(engine, range(60 + flood, 90 + flood), mixer, batch=named_batch, view=None)
    assert after.metrics[0]["stored"] == 0
    for mix in after.mixes:
        assert not known & set(names_of(mix))
    assert sources_of(engine)[:, :, 0, 0, 0].min() >= 60 * SIZE


# Odd batches


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_batches_of_other_sizes_get_as_many_mixes(size: int) -> None:
    engine, teacher = StreamEngine(reuse=6), teacher_of()
    run(engine, 6, teacher=teacher)
    odd = engine.mix(VIEWED, teacher, *batch_of(6, size), seed=(0, 6), view=RandomCropFlip())
    assert len(odd) == size
    assert len(engine.mix(VIEWED, teacher, *batch_of(7), seed=(0, 7))) == SIZE


@pytest.mark.parametrize("k", [2, 3])
def test_batches_of_one_image(k: int) -> None:
    """What is smaller than k at first is no hindrance: images of later batches are mixed."""
    mixer = SuperMix(k=k, mask_size=4, max_steps=4, early_stop=False, max_logit_step=1.0)
    ran = run(StreamEngine(reuse=2, default_transform=None), 30, mixer, sizes=[1] * 30, batch=named_batch, view=None)
    assert [len(mix) for mix in ran.mixes] == [1] * 30
    first, last = ran.mixes[0], ran.mixes[-1]
    torch.testing.assert_close(first.images, named_batch(0, 1)[0])
    assert last.masks.shape[1] == k
    assert not any(last.images.allclose(named_batch(step, 1)[0]) for step in range(30))


@SLOW
@unchecked
def test_a_first_batch_that_is_small_does_not_decide_for_ever_what_is_asked() -> None:
    ran = run(StreamEngine(reuse=8), 300, sizes=[5, *[SIZE] * 299])
    assert ran.metrics[-1]["uses"] == pytest.approx(8, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    def batch(step: int, size: int) -> tuple[Tensor, Tensor]:
        images, labels = batch_of(step, size)
        return images.to(dtype).to(memory_format=torch.channels_last), labels

    teacher = FrozenTeacher(FlatTeacher().to(torch.float64 if dtype == torch.float64 else torch.float32), fold=False)
    ran = run(StreamEngine(reuse=4), 30, FAST, teacher, batch=batch)
    mix = ran.mixes[-1]
    assert mix.images.dtype == dtype
    assert mix.images.is_contiguous(memory_format=torch.channels_last)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert mix.masks.dtype == wide
    assert mix.teacher_logits is not None
    torch.testing.assert_close(mix.teacher_logits, teacher(mix.images.to(wide)), rtol=1e-4, atol=1e-4)


# What the teacher cannot see


@pytest.mark.parametrize("early_stop", [False, True])
@unchecked
def test_views_that_the_teacher_cannot_see_carry_the_labels_of_the_sources(early_stop: bool) -> None:
    def batch(step: int, size: int) -> tuple[Tensor, Tensor]:
        images, labels = batch_of(step, size)
        return mark(images, 3, 4), labels

    mixer = SuperMix(mask_size=4, max_steps=5, early_stop=early_stop, max_logit_step=1.0, pairing="random")
    teacher = teacher_of(BlindToMarked(FlatTeacher()))
    ran = run(StreamEngine(reuse=4, default_transform=None), 100, mixer, teacher, batch=batch, view=None)
    lost = torch.cat([mix.non_finite for mix in ran.mixes[20:]])
    assert 0.1 < lost.double().mean() < 0.35  # a pair has a marked image in 23 of 100 cases
    for mix in ran.mixes:
        assert mix.teacher_logits is not None
        assert mix.images.isfinite().all()
        assert mix.masks.isfinite().all()
        blind = mix.images[:, 0, 0, 0] > 1
        assert mix.non_finite[blind].all()
        torch.testing.assert_close(mix.teacher_logits[blind].softmax(dim=1), mix.soft_targets[blind])
        torch.testing.assert_close(mix.teacher_logits[~blind], FlatTeacher()(mix.images[~blind]).detach())
    replayed = torch.cat([mix.mix_weights[mix.non_finite & (mix.num_steps < 5)] for mix in ran.mixes[20:]])
    assert (replayed[:, 0] == 1).any()  # they are kept as their source alone


@pytest.mark.parametrize("on_unsolved", ["source", "mixup"])
@unchecked
def test_on_unsolved_decides_what_is_kept_of_a_set(on_unsolved: Any) -> None:
    mixer = SuperMix(mask_size=4, max_steps=3, max_logit_step=0.1, on_unsolved=on_unsolved, pairing="random")
    ran = run(StreamEngine(reuse=10, default_transform=None), 60, mixer, view=None)
    seen = 0
    for mix in ran.mixes[20:]:
        kept = mix.outcomes.eq(Outcome.CAPPED) & mix.num_steps.eq(3)
        weights = mix.mix_weights[kept]
        for row, masks in enumerate(mix.masks[kept]):
            flat = masks.flatten(1)
            if torch.isclose(
                flat, flat[:, :1], atol=1e-6
            ).all():  # what has just been visited for the last time is not settled yet
                seen += 1
                torch.testing.assert_close(flat[:, 0], weights[row], atol=2e-3, rtol=0)
                assert (weights[row, 0] == 1) == (on_unsolved == "source")
    assert seen > 20


# Chance, copies, and going on


def test_the_same_seeds_give_the_same_mixes_and_others_do_not() -> None:
    first, again = (run(StreamEngine(reuse=4), 10, FAST).mixes[-1] for _ in range(2))
    assert first.images.equal(again.images)
    engine, teacher = StreamEngine(reuse=4), teacher_of()
    for step in range(10):
        other = engine.mix(FAST, teacher, *batch_of(step), seed=(1, step), view=RandomCropFlip())
    assert not first.images.equal(other.images)  # pyright: ignore


@unchecked
def test_chunks_change_nothing_but_rounding() -> None:
    whole, parts = (
        run(StreamEngine(reuse=4), 20, SuperMix.fast(mask_size=4, max_steps=5, chunk_size=size)).mixes[-1]
        for size in (None, 3)
    )
    for name in ("images", "masks", "teacher_logits"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mixer", [FAST, EARLY, SuperMix(mask_size=4, max_steps=4, init="saliency", pairing="random")])
@pytest.mark.parametrize("saved_at", [*(pytest.param(steps, marks=SLOW) for steps in (1, 2, 9)), 31])
@unchecked
def test_saved_and_loaded_goes_on_to_the_bit(saved_at: int, mixer: SuperMix) -> None:
    options: dict[str, Any] = {"reuse": 5, "store_bytes": 80_000}
    sizes = list(odd_sizes(40))
    whole = run(StreamEngine(**options), 40, mixer, sizes=sizes)
    first, second = StreamEngine(**options), StreamEngine(**options)
    run(first, saved_at, mixer, sizes=sizes)
    state = pickle.loads(pickle.dumps(first.state_dict()))
    tensors = {name: value.clone() for name, value in first.tensors().items()}
    second.check(mixer)
    second.begin(Run())
    second.load_state_dict(state)
    second.load_tensors(tensors)
    assert second.steps == saved_at
    resumed = run(second, range(saved_at, 40), mixer, sizes=sizes[saved_at:])
    for mix, expected in zip(resumed.mixes, whole.mixes[saved_at:], strict=True):
        for name in ("images", "masks", "teacher_logits", "mix_weights", "outcomes", "num_steps", "source_classes"):
            assert getattr(mix, name).equal(getattr(expected, name)), name
        assert mix.teacher_forwards == expected.teacher_forwards
    assert resumed.metrics[-1]["uses"] == whole.metrics[-1]["uses"]
    assert resumed.metrics[-1]["stored"] == whole.metrics[-1]["stored"]


def test_without_the_tensors_the_store_fills_anew_and_the_accounts_go_on() -> None:
    first, second = StreamEngine(reuse=4), StreamEngine(reuse=4)
    run(first, 20)
    second.check(VIEWED)
    second.load_state_dict(first.state_dict())
    assert second.steps == 20
    ran = run(second, range(20, 30), batch=named_batch, view=None)
    assert set(sources_of(second)[:, :, 0, 0, 0].long().flatten().tolist()) <= set(range(20 * SIZE, 30 * SIZE))
    assert ran.metrics[-1]["uses"] > 0


@pytest.mark.parametrize(
    ("engine", "mixer"),
    [
        (StreamEngine(reuse=5), VIEWED),
        (StreamEngine(reuse=4, slots=99), VIEWED),
        (StreamEngine(reuse=4, show_from=2), VIEWED),
        (StreamEngine(reuse=4, store_bytes=10**6), VIEWED),
        (StreamEngine(reuse=4), SuperMix(k=3, mask_size=4, max_steps=5, early_stop=False)),
    ],
)
def test_other_settings_than_those_of_the_checkpoint_begin_anew(
    engine: StreamEngine, mixer: SuperMix, caplog: pytest.LogCaptureFixture
) -> None:
    first = StreamEngine(reuse=4)
    run(first, 12)
    engine.check(mixer)
    engine.begin(Run())
    with caplog.at_level("INFO"):
        engine.load_state_dict(first.state_dict())
        engine.load_tensors(first.tensors())
        assert engine.steps == 12
        ran = run(engine, range(12, 16), mixer, batch=named_batch, view=None)
    assert caplog.text.count("its settings or the mixer's are others than in the checkpoint, so it begins anew") == 1
    assert len(ran.mixes[-1]) == SIZE
    numbers = sources_of(engine)[:, :, 0, 0, 0].long()
    assert numbers.min() >= 12 * SIZE


def test_the_state_of_another_engine_lets_the_stream_begin() -> None:
    engine = StreamEngine(reuse=4)
    engine.load_state_dict({})
    assert engine.steps == 0
    assert len(run(engine, 2).mixes) == 2


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda engine: pickle.loads(pickle.dumps(engine))])
def test_copies_keep_the_settings_and_drop_the_run(copied: Any) -> None:
    engine = StreamEngine(
        reuse=5, show_from=3, slots=70, store_bytes=10**6, default_transform=RandomCropFlip(padding=3)
    )
    engine.begin(Run(broadcast=lambda value: value, training_seconds=lambda: 1.0))
    before = run(engine, 5)
    other = copied(engine)
    assert repr(other) == repr(engine)
    assert other.default_transform == RandomCropFlip(padding=3)
    assert (other.steps, other.plan, other.metrics(), other.tensors()) == (0, None, {}, {})
    assert other._asked() == engine._asked()
    assert len(pickle.dumps(engine)) < 5000
    again = run(other, 5)
    assert again.mixes[-1].images.equal(before.mixes[-1].images)
    assert engine.steps == 5  # the copied one goes on
    run(engine, [5])


# Budgets


def timed(monkeypatch: pytest.MonkeyPatch, visit: float, label: float | None) -> None:
    """Passes that take so long a row: the first clock that an engine makes is that of visits."""
    made: list[PassTimes] = []
    plain = PassTimes.__init__

    def init(self: PassTimes, device: torch.device) -> None:
        plain(self, device)
        made.append(self)

    def per_row(self: PassTimes) -> float | None:
        return label if made.index(self) % 2 else visit

    monkeypatch.setattr(PassTimes, "__init__", init)
    monkeypatch.setattr(PassTimes, "per_row", per_row)


@pytest.mark.parametrize(
    ("budget", "reuse"), [(0.3, 12.0), pytest.param(0.15, 24.0, marks=SLOW), pytest.param(0.9, 192 / 44, marks=SLOW)]
)
@unchecked
def test_a_budget_becomes_the_uses_that_it_pays_for(
    budget: float, reuse: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 mixes a step; a visit takes 2, of which the half that is shown spares 1; the step 80: 16 visits are .3.

    44 visits show all the 16 and take 88, 72 more than labels would.
    """
    timed(monkeypatch, visit=2.0, label=1.0)
    said: list[Any] = []
    engine = StreamEngine(budget=budget)
    engine.begin(Run(broadcast=lambda value: said.append(value) or value, training_seconds=lambda: 80.0))
    ran = run(engine, 300)
    assert engine.plan is not None
    assert engine.plan.reuse == pytest.approx(reuse)
    assert said == [pytest.approx(reuse)]
    assert ran.metrics[-1]["uses"] == pytest.approx(reuse, rel=0.1)
    assert engine.state_dict()["reuse"] == pytest.approx(reuse)
    spent = [2.0 * mix.teacher_backwards + mix.label_forwards - SIZE for mix in ran.mixes[60:]]
    assert np.mean(spent) / 80 == pytest.approx(budget, rel=0.06)


def test_other_ranks_take_the_first_ones_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, visit=2.0, label=1.0)
    engine = StreamEngine(budget=0.3)
    engine.begin(Run(broadcast=lambda own: 7.5, training_seconds=lambda: 80.0))
    run(engine, 12)
    assert engine.plan is not None
    assert engine.plan.reuse == 7.5


@pytest.mark.parametrize(("training", "visit"), [(None, 2.0), (80.0, None)])
def test_a_budget_waits_until_there_are_times(
    training: float | None, visit: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning's finders do not train, and in their first steps nothing was timed."""
    timed(monkeypatch, visit=visit, label=1.0)  # pyright: ignore[reportArgumentType]
    known: list[float | None] = [training]
    engine = StreamEngine(budget=0.3)
    engine.begin(Run(training_seconds=lambda: known[0]))
    assert len(run(engine, 25).mixes) == 25
    assert engine.plan is not None
    assert engine.plan.reuse == 12  # the default, until a budget can be kept
    if training is None:
        known[0] = 80.0
        run(engine, range(25, 32))
        assert engine.plan.reuse == pytest.approx(12.0)
        assert engine.state_dict()["reuse"] == pytest.approx(12.0)


def test_a_planned_budget_is_kept_in_the_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, visit=2.0, label=None)
    first = StreamEngine(budget=0.3)
    first.begin(Run(training_seconds=lambda: 80.0))
    run(first, 12)
    second = StreamEngine(budget=0.3)
    second.check(VIEWED)
    second.begin(Run(training_seconds=lambda: pytest.fail("measured again")))
    second.load_state_dict(first.state_dict())
    run(second, range(12, 24))
    assert second.plan == first.plan


# What does not fit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0.1, "reuse": 3}, "expected at most one of reuse and budget, got 3 and 0.1"),
        ({"budget": 0.0}, "expected budget > 0, got 0.0"),
        ({"reuse": -1}, "expected reuse > 0, got -1"),
        ({"slots": 0}, "expected slots to be an integer >= 1, got 0"),
        ({"show_from": -1}, "expected show_from to be an integer >= 0, got -1"),
        ({"store_bytes": 0}, "expected store_bytes to be an integer >= 1, got 0"),
        ({"store_bytes": None}, "expected store_bytes to be an integer >= 1, got None"),
    ],
)
@unchecked
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreamEngine(**options)


@pytest.mark.parametrize("transform", [3, RandomCropFlip])
@unchecked
def test_what_is_no_transform(transform: Any) -> None:
    with pytest.raises(TypeError, match="expected default_transform to take and give images, got"):
        StreamEngine(default_transform=transform)


def test_mixers_whose_work_cannot_be_spread_are_refused() -> None:
    mixer = FunctionMixer(EXACT.__call__)
    with pytest.raises(
        TypeError, match=r'expected SuperMix, .* for the stream engine, got FunctionMixer.*engine="batch"'
    ):
        StreamEngine().check(mixer)


def test_a_solving_mixer_needs_a_teacher() -> None:
    with pytest.raises(ValueError, match="expected a teacher to supervise the masks, got None"):
        StreamEngine().mix(EXACT, None, *batch_of(0), seed=0)


@unchecked
@pytest.mark.parametrize("mixer", [EXACT, MixUp()])
def test_a_plain_module_teaches_and_labels_of_other_rows_are_refused(mixer: Any) -> None:
    images, labels = batch_of(0)
    teachers = FlatTeacher(), FrozenTeacher(FlatTeacher())
    plain, wrapped = (StreamEngine().mix(mixer, teacher, images, labels, seed=0) for teacher in teachers)
    assert torch.equal(plain.images, wrapped.images)
    with pytest.raises(ValueError, match=r"expected integer labels of shape \(16,\), got torch.int64 of shape \(15,\)"):
        StreamEngine().mix(mixer, FlatTeacher(), images, labels[1:], seed=0)


def test_images_of_another_size_are_refused() -> None:
    engine, teacher = StreamEngine(reuse=6), teacher_of()
    run(engine, 3, teacher=teacher)
    images = torch.zeros(SIZE, 3, 8, 6)
    with pytest.raises(ValueError, match=r"one shape for the stream engine, got \(3, 8, 6\) after \(3, 8, 8\)"):
        engine.mix(VIEWED, teacher, images, None, seed=(0, 3))


def test_its_own_names() -> None:
    engine = StreamEngine(reuse=3, show_from=2, store_bytes=9)
    assert repr(engine) == "StreamEngine(reuse=3, show_from=2, store_bytes=9)"
    assert (engine.solves_now, engine.takes_natural_logits) == (False, True)
    assert engine.default_transform == RandomCropFlip()
    assert engine.plan is None
