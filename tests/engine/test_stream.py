"""The stream engine by itself: what it gives, that it favours no kind of set, and what it refuses."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from supermix_pl import FrozenTeacher, MixedBatch, MixUp, SuperMix
from supermix_pl.engine import Run, StreamEngine, stream
from supermix_pl.engine.draw import draw_some
from supermix_pl.solver import Outcome
from tests.problems import BlindToMarked, Counting, SmoothTeacher, mark, natural_images

MIXER = SuperMix(k=2, mask_size=4, max_steps=6)
LABELS = None


def teacher_of(module: nn.Module | None = None) -> FrozenTeacher:
    return FrozenTeacher(SmoothTeacher() if module is None else module)


def batches(count: int, size: int = 16, seed: int = 0) -> Tensor:
    return natural_images(count * size, seed=seed).view(count, size, 3, 12, 12)


def run(engine: StreamEngine, images: Tensor, mixer: SuperMix = MIXER, teacher: Any = None) -> list[MixedBatch]:
    teacher = teacher or teacher_of()
    return [engine.mix(mixer, teacher, batch, None, seed=(0, step)) for step, batch in enumerate(images)]


def metrics_of(engine: StreamEngine, images: Tensor, mixer: SuperMix = MIXER) -> list[dict[str, float]]:
    teacher = teacher_of()
    found = []
    for step, batch in enumerate(images):
        engine.mix(mixer, teacher, batch, None, seed=(0, step))
        found.append(engine.metrics())
    return found


def test_the_batch_engine_fills_in_until_the_pool_is_warm() -> None:
    engine, images = StreamEngine(reuse=3), batches(12)
    given = run(engine, images)
    for step, mix in enumerate(given):
        fresh = MIXER(teacher_of(), images[step], seed=(0, step))
        if step < 3:  # as many batches as a mix is used
            assert mix.images.equal(fresh.images)
            assert mix.source_indices[:, 0].equal(torch.arange(16))
        else:
            assert mix.source_indices.eq(-1).all()
            assert not torch.isclose(mix.images, fresh.images).flatten(1).all(dim=1).any()


def test_mixup_fills_in_where_it_is_asked_for() -> None:
    engine, images = StreamEngine(reuse=2, until_warm="mixup"), batches(12)
    given = run(engine, images)
    first = MixUp(k=2)(teacher_of(), images[1], None, seed=(0, 1))
    assert given[1].images.equal(first.images)
    assert given[1].num_steps.eq(0).all()
    assert given[-1].num_steps.gt(0).all()


def test_mixes_are_what_the_teacher_said_of_them() -> None:
    engine = StreamEngine(reuse=2, pool_dtype="batch", keep_masks=True)
    teacher, images = teacher_of(), batches(10)
    for mix in run(engine, images, teacher=teacher)[4:]:
        assert mix.teacher_logits is not None
        torch.testing.assert_close(teacher(mix.images), mix.teacher_logits)
        assert mix.outcomes.eq(Outcome.SOLVED).any()
        members = torch.zeros_like(mix.teacher_logits, dtype=torch.bool).scatter_(1, mix.source_classes, True)
        count = members.sum(dim=1)
        for row in mix.solved.nonzero().squeeze(1).tolist():
            assert set(mix.teacher_logits[row].topk(int(count[row])).indices.tolist()) == set(
                mix.source_classes[row].tolist()
            )
        assert mix.masks.shape == (16, 2, 12, 12)
        torch.testing.assert_close(mix.masks.sum(dim=1), torch.ones(16, 12, 12), atol=1e-2, rtol=0)


@pytest.mark.parametrize("options", [{"slots": 20}, {"slots": 9, "rounds": 3}, {"reuse": 4.0}, {}])
@pytest.mark.usefixtures("unchecked")  # many steps: the checks would take most of the time
def test_a_step_costs_the_same_whatever_ends(options: dict[str, Any]) -> None:
    counting = Counting(SmoothTeacher())
    engine, teacher = StreamEngine(**options), FrozenTeacher(counting, fold=False)
    forwards, backwards = [], []
    for step, batch in enumerate(batches(60)):
        counting.forwards = counting.backwards = 0
        mix = engine.mix(MIXER, teacher, batch, None, seed=(0, step))
        assert (mix.teacher_forwards, mix.teacher_backwards) == (counting.forwards, counting.backwards)
        forwards.append(counting.forwards)
        backwards.append(counting.backwards)
    plan = engine.plan
    assert plan is not None
    assert set(backwards[10:]) == {plan.slots * plan.rounds}
    entries = np.array(forwards[10:]) - plan.slots * plan.rounds
    assert (entries <= 2 * np.ceil(2 * plan.fresh)).all()


@pytest.mark.parametrize("options", [{"slots": 60}, {"reuse": 4.0}, {"reuse": 4.0, "rounds": 2}])
@pytest.mark.usefixtures("unchecked")  # many steps: the checks would take most of the time
def test_between_turns_a_step_asks_the_teacher_for_nothing(options: dict[str, Any]) -> None:
    counting = Counting(SmoothTeacher())
    engine, teacher = StreamEngine(**options, every_n_steps=5), FrozenTeacher(counting, fold=False)
    backwards = []
    for step, batch in enumerate(batches(60)):
        counting.forwards = counting.backwards = 0
        mix = engine.mix(MIXER, teacher, batch, None, seed=(0, step))
        assert (mix.teacher_forwards, mix.teacher_backwards) == (counting.forwards, counting.backwards)
        assert len(mix) == len(batch)
        if step > 20 and step % 5:
            assert counting.forwards == engine.metrics()["fresh"] == 0
        backwards.append(counting.backwards)
    plan = engine.plan
    assert plan is not None
    assert set(backwards[20::5]) == {plan.slots * plan.rounds}


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.usefixtures("unchecked")  # many steps: the checks would take most of the time
def test_uses_and_fresh_mixes_are_as_planned(every: int) -> None:
    engine = StreamEngine(reuse=4.0, pool_bytes=2**18, every_n_steps=every)
    found = metrics_of(engine, batches(150))
    assert engine.plan is not None
    fresh = np.mean([step["fresh"] for step in found[20:]])
    assert fresh == pytest.approx(engine.plan.fresh, rel=0.25)
    assert 16 / fresh == pytest.approx(4.0, rel=0.3)
    assert found[-1]["age"] > found[6]["age"] > 0
    assert found[-1]["pool_bytes"] <= 2**18
    assert found[-1]["uses"] == pytest.approx(4.0, rel=0.4)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")  # many steps: the checks would take most of the time
def test_no_kind_of_set_is_favoured() -> None:
    """Outcomes, steps, classes and weights in the pool against those of the batch engine, over a long run."""
    images = natural_images(96)
    chance = np.random.default_rng(0)
    mixer = SuperMix(k=2, mask_size=4, max_steps=8, pairing="random")
    engine, teacher = StreamEngine(slots=37, rounds=2, pool_bytes=10**7), teacher_of()
    order = [torch.from_numpy(chance.permutation(96)[:32]) for _ in range(500)]
    whole = [mixer(teacher, images[rows], seed=(1, step)) for step, rows in enumerate(order[:130])]
    for step, rows in enumerate(order):
        engine.mix(mixer, teacher, images[rows], None, seed=(0, step))
    assert engine._pool is not None
    held = engine._pool.tensors()
    assert len(held["outcomes"]) > 3000
    hard = {"batch": torch.cat([mix.outcomes for mix in whole]), "stream": held["outcomes"]}
    steps = {"batch": torch.cat([mix.num_steps for mix in whole]), "stream": held["num_steps"]}
    classes = {"batch": torch.cat([mix.source_classes for mix in whole]), "stream": held["source_classes"]}
    weights = {"batch": torch.cat([mix.mix_weights for mix in whole]), "stream": held["mix_weights"]}

    def share(found: dict[str, Tensor], wanted: int) -> tuple[float, float, float]:
        one, two = ((found[name] == wanted).double().mean().item() for name in ("batch", "stream"))
        sizes = [found[name].numel() for name in ("batch", "stream")]
        return one, two, 3.5 * (one * (1 - one) * sum(1 / size for size in sizes)) ** 0.5

    for found, wanted in [
        (hard, Outcome.CAPPED),
        *((steps, count) for count in range(1, 9)),
        *((classes, c) for c in range(6)),
    ]:
        one, two, tolerance = share(found, int(wanted))
        assert abs(one - two) <= max(tolerance, 0.01), (wanted, one, two, tolerance)
    assert 0.05 < share(hard, Outcome.CAPPED)[0] < 0.95
    for moment in (1, 2):
        one, two = (weights[name][:, 0].double().pow(moment).mean() for name in ("batch", "stream"))
        assert abs(one - two) < 0.015


@pytest.mark.parametrize("pairing", ["shift", "random", "distinct"])
@pytest.mark.parametrize("count", [1, 5, 16, 40])
@pytest.mark.parametrize("k", [1, 3])
def test_sets_are_drawn_evenly_and_seen_only_where_used(pairing: Any, count: int, k: int) -> None:
    images, counting = batches(1)[0], Counting(SmoothTeacher())
    mixer = SuperMix(k=k, mask_size=4, pairing=pairing)
    teacher = FrozenTeacher(counting, fold=False)
    natural, drawn, start = draw_some(mixer, teacher, images, None, count, np.random.default_rng(0))
    firsts = [int((images == source).flatten(1).all(dim=1).nonzero()) for source in drawn.sources[:, 0]]
    uses = np.bincount(firsts, minlength=16)
    assert uses.max() - uses.min() <= 1
    for row in range(count):
        assert len({source.sum().item() for source in drawn.sources[row]}) == k
        assert drawn.source_classes[row].equal(teacher(drawn.sources[row]).argmax(dim=1))
        torch.testing.assert_close(drawn.own_logits[row], teacher(drawn.sources[row, :1])[0])
    shown = len({source.sum().item() for source in drawn.sources.flatten(0, 1)})
    assert natural.forwards == (16 if pairing == "distinct" else shown)
    assert pairing == "distinct" or shown == min(16, count + k - 1)  # sets share their images
    assert start.shape == (count, k, 4, 4)


@pytest.mark.parametrize("pairing", ["shift", "random", "distinct"])
def test_no_image_of_a_batch_is_favoured_where_few_sets_are_drawn(pairing: Any) -> None:
    images, mixer, teacher = batches(1)[0], SuperMix(k=2, mask_size=4, pairing=pairing), teacher_of()
    rng, firsts = np.random.default_rng(0), list[int]()
    for _ in range(120):
        _, drawn, _ = draw_some(mixer, teacher, images, None, 2, rng)
        firsts += [int((images == source).flatten(1).all(dim=1).nonzero()) for source in drawn.sources[:, 0]]
    uses = np.bincount(firsts, minlength=16)  # 15 expected
    assert uses.min() >= 4
    assert uses.max() <= 30


@pytest.mark.parametrize("on_unsolved", ["keep", "source", "mixup"])
def test_on_unsolved_decides_what_enters_the_pool(on_unsolved: Any) -> None:
    mixer = SuperMix(k=2, mask_size=4, max_steps=2, on_unsolved=on_unsolved)
    engine, teacher = StreamEngine(reuse=1, pool_dtype="batch", keep_masks=True), teacher_of()
    images = batches(12)
    mix = run(engine, images, mixer, teacher)[-1]
    capped = mix.outcomes == Outcome.CAPPED
    assert 0 < capped.sum() < 16
    torch.testing.assert_close(teacher(mix.images), mix.teacher_logits)
    if on_unsolved == "source":
        assert mix.mix_weights[capped].equal(torch.tensor([1.0, 0.0]).double().expand(int(capped.sum()), 2))
        natural = images.flatten(0, 1)
        assert all((natural == image).flatten(1).all(dim=1).any() for image in mix.images[capped])
    if on_unsolved == "mixup":
        shares = mix.mix_weights[capped][:, :, None, None].expand(-1, -1, 12, 12)
        torch.testing.assert_close(mix.masks[capped].double(), shares, atol=1e-3, rtol=0)
    assert mix.num_steps[~capped].gt(0).all()


@pytest.mark.usefixtures("unchecked")  # many steps: the checks would take most of the time
def test_images_that_the_teacher_cannot_see_leave_as_they_are() -> None:
    images = torch.stack([mark(batch, 3, 4) for batch in batches(150)])
    engine = StreamEngine(slots=24, pool_dtype="batch")
    given = run(engine, images, teacher=teacher_of(BlindToMarked(SmoothTeacher())))
    assert engine._pool is not None
    lost = engine._pool.tensors()["outcomes"] == Outcome.NON_FINITE
    assert len(lost) > 1000
    assert lost.double().mean() == pytest.approx(3 / 16, abs=0.03)  # of a shifted pair
    for mix in given:
        assert mix.images.isfinite().all()
        assert mix.teacher_logits is not None
        assert mix.teacher_logits.isfinite().all()
    natural = images.flatten(0, 1)
    for mix in given[-3:]:
        for image in mix.images[mix.outcomes == Outcome.NON_FINITE]:
            assert (natural == image).flatten(1).all(dim=1).any()


def test_the_same_seeds_give_the_same_mixes_and_others_do_not() -> None:
    images, teacher = batches(10), teacher_of()

    def last(seed: int) -> MixedBatch:
        engine = StreamEngine(reuse=2)
        return [engine.mix(MIXER, teacher, batch, None, seed=(seed, step)) for step, batch in enumerate(images)][-1]

    assert last(0).images.equal(last(0).images)
    assert not last(0).images.equal(last(1).images)


@pytest.mark.parametrize("saved_at", [1, 2, 5, 9])
@pytest.mark.parametrize("every", [None, 3])
def test_saved_and_loaded_goes_on_to_the_bit(saved_at: int, every: int | None) -> None:
    images, teacher = batches(14), teacher_of()
    whole = run(StreamEngine(reuse=2, every_n_steps=every), images, teacher=teacher)
    first, second = (StreamEngine(reuse=2, every_n_steps=every) for _ in range(2))
    run(first, images[:saved_at], teacher=teacher)
    second.begin(Run())
    second.load_state_dict(first.state_dict())
    second.load_tensors({name: value.clone() for name, value in first.tensors().items()}, torch.device("cpu"))
    for step in range(saved_at, 14):
        mix = second.mix(MIXER, teacher, images[step], None, seed=(0, step))
        assert mix.images.equal(whole[step].images)
        assert mix.teacher_forwards == whole[step].teacher_forwards


def test_without_the_tensors_the_pool_fills_anew_under_the_same_plan() -> None:
    images, teacher = batches(14), teacher_of()
    first, second = StreamEngine(reuse=2), StreamEngine(reuse=2)
    run(first, images[:9], teacher=teacher)
    second.load_state_dict(first.state_dict())
    assert second.plan == first.plan
    mix = second.mix(MIXER, teacher, images[9], None, seed=(0, 9))
    assert mix.source_indices.ge(0).all()  # the batch engine fills in
    later = [second.mix(MIXER, teacher, images[step], None, seed=(0, step)) for step in range(10, 14)]
    assert later[-1].source_indices.eq(-1).all()


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_batches_of_other_sizes_get_as_many_mixes(size: int) -> None:
    engine, teacher = StreamEngine(reuse=2, slots=None), teacher_of()
    images = batches(6)
    run(engine, images, teacher=teacher)
    odd = engine.mix(MIXER, teacher, natural_images(size), None, seed=(0, 6))
    assert len(odd) == size
    assert len(engine.mix(MIXER, teacher, images[0], None, seed=(0, 7))) == 16


def test_a_first_batch_of_one_image() -> None:
    engine, teacher = StreamEngine(reuse=2), teacher_of()
    with pytest.warns(UserWarning, match="a batch of 1 images is smaller than k=2"):
        assert len(engine.mix(MIXER, teacher, natural_images(1), None, seed=(0, 0))) == 1
    given = [engine.mix(MIXER, teacher, batch, None, seed=(0, 1 + step)) for step, batch in enumerate(batches(8))]
    assert given[-1].source_indices.eq(-1).all()


def test_a_budget_is_measured_once_on_the_first_rank() -> None:
    asked = []

    def broadcast(value: Any) -> Any:
        asked.append(value)
        return value

    engine = StreamEngine(budget=0.5)
    engine.begin(Run(True, broadcast, lambda: 0.5))
    run(engine, batches(16))
    plan = engine.plan
    assert plan is not None
    assert plan.share is not None
    assert plan.share <= 0.45
    assert plan.share > 0.2 or plan.slots == 32  # two an image
    assert asked == [pytest.approx(plan.tests), plan]

    other = StreamEngine(budget=0.5)
    other.begin(Run(False, lambda value: plan if value is None else value, lambda: pytest.fail("asked")))
    run(other, batches(16))
    assert other.plan == plan


@pytest.mark.parametrize(("training", "warned"), [(0.5, False), (1e-5, True)])
def test_a_budget_that_cannot_be_kept_is_warned_of(training: float, warned: bool) -> None:
    engine = StreamEngine(budget=0.5)
    engine.begin(Run(training_seconds=lambda: training))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(engine, batches(16))
    found = [str(each.message) for each in caught if "expected a budget that pays for mixes" in str(each.message)]
    assert len(found) == warned
    if warned:
        assert engine.plan is not None
        assert f"a mix is used {engine.plan.reuse:.0f} times" in found[0]


def test_plans_of_checkpoints_that_had_a_turn_in_every_step() -> None:
    engine = StreamEngine(slots=9)
    run(engine, batches(3))
    state = engine.state_dict()
    del state["plan"]["every_n_steps"]
    other = StreamEngine(slots=9)
    other.load_state_dict(state)
    assert other.plan == engine.plan


@pytest.mark.parametrize("options", [{"reuse": 2.0}, {"budget": 0.5}])
@pytest.mark.usefixtures("unchecked")
def test_the_plan_is_for_whole_batches(options: dict[str, Any]) -> None:
    """Of epochs of two batches, the second one small."""
    engine, teacher = StreamEngine(**options), teacher_of()
    engine.begin(Run(training_seconds=lambda: 0.5))
    images = batches(24)
    for step, batch in enumerate(images):
        engine.mix(MIXER, teacher, batch[: 16 if step % 2 == 0 else 3], None, seed=(0, step))
        if step % 2:
            assert engine.plan is None or engine.plan.slots > 2 * 3
    assert engine.plan is not None
    assert engine.plan.reuse == pytest.approx(16 / engine.plan.fresh)


def test_of_a_small_batch_few_sets_enter_a_rare_turn() -> None:
    engine, teacher = StreamEngine(slots=40, every_n_steps=2), teacher_of()
    run(engine, batches(2), teacher=teacher)
    entered = []
    for step in (2, 3, 4):
        before = engine._slots.free().size if engine._slots is not None else 40
        engine.mix(SuperMix(k=2, mask_size=4, max_steps=6), teacher, batches(1)[0][:3], None, seed=(0, step))
        assert engine._slots is not None
        entered.append(before - engine._slots.free().size)
    assert max(entered) <= 2 * 3


@pytest.mark.parametrize(("device", "bound"), [("cuda", True), ("cpu", False)])
def test_launching_counts_on_a_gpu(device: str, bound: bool) -> None:
    assert stream._is_launch_bound(torch.device(device)) == bound


def test_where_launching_counts_a_stream_of_few_new_mixes_has_rare_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr("supermix_pl.engine.stream._is_launch_bound", lambda device: asked.append(device) or True)
    engine = StreamEngine(reuse=20)
    run(engine, batches(8))
    assert asked == [torch.device("cpu")]
    assert engine.plan is not None
    assert engine.period == engine.plan.every_n_steps > 1


def test_a_pool_that_is_empty_is_filled_before_a_budget_is_planned() -> None:
    """A run that is resumed before its plan, whose first batches would only be averaged."""
    engine = StreamEngine(budget=0.5, until_warm="mixup")
    engine.begin(Run(training_seconds=lambda: 0.5))
    run(engine, batches(4))
    state = engine.state_dict()
    assert state["plan"] is None
    resumed = StreamEngine(budget=0.5, until_warm="mixup")
    resumed.begin(Run(training_seconds=lambda: 0.5))
    resumed.load_state_dict(state)
    run(resumed, batches(16))
    assert resumed.plan is not None
    assert resumed.plan.tests == pytest.approx(state["tests"])


def test_a_budget_without_a_clock_is_refused() -> None:
    with pytest.raises(ValueError, match="expected times of training steps for budget="):
        run(StreamEngine(budget=0.5), batches(16))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0.1, "reuse": 3}, "expected at most one of budget, reuse and slots"),
        ({"slots": 4, "reuse": 3}, "expected at most one of budget, reuse and slots"),
        ({"budget": 0.0}, "expected budget > 0, got 0.0"),
        ({"reuse": -1}, "expected reuse > 0, got -1"),
        ({"slots": 0}, "expected slots to be an integer >= 1, got 0"),
        ({"rounds": 0}, "expected rounds to be an integer >= 1, got 0"),
        ({"every_n_steps": 0}, "expected every_n_steps to be an integer >= 1, got 0"),
        ({"pool_bytes": 0}, "expected pool_bytes to be an integer >= 1, got 0"),
        ({"pool_bytes": None}, "expected pool_bytes to be an integer >= 1, got None"),
        ({"keep_masks": "no"}, "expected keep_masks to be True or False, got 'no'"),
        ({"relabel": None}, "expected relabel to be True or False, got None"),
        ({"pool_dtype": "int4"}, "expected pool_dtype to be one of uint8, batch, got 'int4'"),
        ({"until_warm": "cutmix"}, "expected until_warm to be one of batch, mixup, got 'cutmix'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreamEngine(**options)


def test_mixers_that_solve_nothing_are_refused() -> None:
    with pytest.raises(TypeError, match="expected SuperMix for the stream engine"):
        StreamEngine().check(MixUp())


def test_images_of_another_size_are_refused() -> None:
    engine, teacher = StreamEngine(reuse=2), teacher_of()
    run(engine, batches(6), teacher=teacher)
    with pytest.raises(ValueError, match=r"one shape for the stream engine, got \(3, 8, 8\) after \(3, 12, 12\)"):
        engine.mix(MIXER, teacher, natural_images(16, (8, 8)), None, seed=(0, 6))
