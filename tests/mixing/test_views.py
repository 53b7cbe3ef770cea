"""SuperMix under views: under which it solves, that one and the other see the same, and that chunks change nothing."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.mixing.supermix import SuperMix as Mixer
from supermix_pl.mixing.views import Viewer, tell_substitute
from supermix_pl.solver import Outcome
from supermix_pl.solver.masks import mix_images, normalized_masks
from supermix_pl.transforms import PerImage, RandomCropFlip, RandomResizedCropFlip
from tests.problems import BlindToMarked, Counting, SmoothTeacher, mark, natural_images

IMAGES = natural_images(8, dtype=torch.float32)
OPTIONS: dict[str, Any] = {"mask_size": 4, "max_steps": 3, "early_stop": False, "max_logit_step": 2.0}


def module() -> SmoothTeacher:
    return SmoothTeacher().float()


class Shift:
    """Rolls all images by a draw of torch's: differentiable, and not ours."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __repr__(self) -> str:
        return "Shift()"

    def __call__(self, images: Tensor) -> Tensor:
        self.seen.append(int(torch.randint(12, ())))
        return images.roll(self.seen[-1], dims=3)


class Rounding:
    """Breaks the graph."""

    def __init__(self, name: str = "Rounding()") -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def __call__(self, images: Tensor) -> Tensor:
        return images.round()


@pytest.fixture(autouse=True)
def untold() -> None:
    tell_substitute.cache_clear()


def test_under_what_masks_are_solved() -> None:
    crop, resized, shift = RandomCropFlip(padding=1), RandomResizedCropFlip(), Shift()
    flip = v2.RandomHorizontalFlip()
    for shown in (None, crop, shift, Rounding()):
        assert SuperMix().solving_view(shown, IMAGES) is None
        assert SuperMix(views=resized).solving_view(shown, IMAGES) is resized
        assert SuperMix(views=shift).solving_view(shown, IMAGES) is shift
    for shown in (crop, resized, shift, flip):
        assert SuperMix(views="auto").solving_view(shown, IMAGES) is shown
    assert SuperMix(views="auto").solving_view(None, IMAGES) == RandomCropFlip()


def test_auto_says_once_what_it_takes_instead_of_a_transform_that_breaks_the_graph() -> None:
    mixer = SuperMix(views="auto", **OPTIONS)
    with pytest.warns(
        UserWarning, match=r"no gradient flows through Rounding\(\): .* RandomCropFlip\(.*\) instead"
    ) as told:
        assert mixer.solving_view(Rounding(), IMAGES) == RandomCropFlip()
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mixer.solving_view(Rounding(), IMAGES) == RandomCropFlip()
    with pytest.warns(UserWarning, match="no gradient flows through another"):
        mixer.solving_view(Rounding("another"), IMAGES)


def test_the_student_sees_what_breaks_the_graph_all_the_same() -> None:
    with pytest.warns(UserWarning, match="no gradient flows through Rounding"):
        mix = SuperMix(views="auto", **OPTIONS)(module(), IMAGES, seed=0, view=Rounding())
    assert mix.images.equal(mix.images.round())
    assert mix.teacher_logits is not None
    torch.testing.assert_close(mix.teacher_logits, module()(mix.images).detach())
    under_crops = SuperMix(views=RandomCropFlip(), **OPTIONS)(module(), IMAGES, seed=0, view=Rounding())
    assert mix.masks.equal(under_crops.masks)


@pytest.mark.parametrize("views", [Rounding("Rounding(8 bits)"), torch.no_grad()(lambda images: images * 1.0)])
def test_explicit_views_that_break_the_graph_are_refused_by_name(views: Any) -> None:
    counting = Counting(module())
    with pytest.raises(
        ValueError, match=r"expected views through which gradients flow, got .*breaks the graph"
    ) as told:
        SuperMix(views=views, **OPTIONS)(counting, IMAGES, seed=0, view=RandomCropFlip())
    assert repr(views) in str(told.value)


def test_views_end_early_stopping() -> None:
    assert SuperMix().early_stop is True
    assert SuperMix(views="auto").early_stop is False
    assert SuperMix(views=RandomCropFlip()).early_stop is False
    assert SuperMix(early_stop=False).early_stop is False
    assert SuperMix.fast().early_stop is False


@pytest.mark.parametrize("views", [None, "auto", RandomCropFlip(padding=3)])
@pytest.mark.parametrize("view", [None, RandomCropFlip(padding=1), v2.RandomHorizontalFlip(0.5)])
def test_every_set_takes_max_steps(views: Any, view: Any) -> None:
    counting = Counting(module())
    teacher = FrozenTeacher(counting)
    mix = SuperMix(views=views, **OPTIONS)(teacher, IMAGES, seed=0, view=view)
    assert mix.num_steps.tolist() == [3] * 8
    assert mix.label_forwards == 8
    assert mix.teacher_forwards == counting.forwards == 8 + 3 * 8 + 8
    assert mix.teacher_backwards == counting.backwards == 3 * 8
    assert (mix.holds is None) == (view is None)


@pytest.mark.parametrize("views", ["auto", RandomResizedCropFlip(), Shift()])
def test_masks_depend_on_the_views_and_not_on_the_shown_one(views: Any) -> None:
    def masks(views: Any, view: Any) -> Tensor:
        return SuperMix(views=views, **OPTIONS)(module(), IMAGES, seed=0, view=view).masks

    assert not torch.isclose(masks(views, RandomCropFlip()), masks(None, RandomCropFlip())).all()
    same = masks(views, RandomCropFlip()).equal(masks(views, RandomCropFlip(padding=3)))
    assert same == (views != "auto")


def test_what_is_shown_is_a_look_that_was_not_solved_on() -> None:
    looks: list[Tensor] = []

    class Watching(RandomCropFlip):
        def draw(self, keys: Tensor, rounds: Tensor, size: tuple[int, int]) -> Tensor:
            looks.append(rounds)
            return super().draw(keys, rounds, size)

    view = Watching(padding=3)
    mix = SuperMix(views="auto", **OPTIONS)(module(), IMAGES, seed=0, view=view)
    assert [int(each.unique()) for each in looks[:-1]] == [0, 1, 2]
    assert not (looks[-1][:, None] == torch.stack(looks[:-1], dim=1)).any()
    plain = mix_images(IMAGES[mix.source_indices], mix.masks)
    assert not torch.isclose(mix.images, plain).all()


def test_foreign_views_are_drawn_anew_in_every_round_from_the_seed() -> None:
    shift = Shift()
    mixer = SuperMix(views=shift, **OPTIONS)
    drawn = []
    for seed in (0, 0, 1):
        mixer.solving_view(None, IMAGES)
        shift.seen.clear()
        mixer(module(), IMAGES, seed=seed, view=shift)
        drawn.append(tuple(shift.seen))
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 4  # three rounds and what is shown
    assert len(set(drawn[0])) > 1


@pytest.mark.parametrize("chunk_size", [1, 3])
@pytest.mark.parametrize("views", ["auto", RandomResizedCropFlip(), Shift()])
def test_chunks_change_nothing(views: Any, chunk_size: int) -> None:
    whole, parts = (
        SuperMix(views=views, **OPTIONS, chunk_size=size)(module(), IMAGES, seed=0, view=RandomCropFlip())
        for size in (None, chunk_size)
    )
    for name in ("images", "masks", "teacher_logits"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-3, atol=1e-4)
    assert parts.outcomes.equal(whole.outcomes)


def test_kornia_is_a_view() -> None:
    augmentation = pytest.importorskip("kornia.augmentation")
    shift = augmentation.RandomAffine(degrees=10.0, translate=(0.1, 0.1), p=1.0)
    mixer = SuperMix(views="auto", **OPTIONS)
    assert mixer.solving_view(shift, IMAGES) is shift
    mix, again, other = (mixer(module(), IMAGES, seed=seed, view=shift) for seed in (0, 0, 1))
    assert mix.images.equal(again.images)
    assert not mix.masks.equal(SuperMix(**OPTIONS)(module(), IMAGES, seed=0, view=shift).masks)
    assert not mix.images.equal(other.images)
    assert mix.teacher_logits is not None
    torch.testing.assert_close(mix.teacher_logits, module()(mix.images).detach(), rtol=1e-4, atol=1e-4)


def test_per_image_policies_of_torchvision_are_shown_and_not_solved_under() -> None:
    policy = PerImage(v2.RandAugment(), mean=[0.5] * 3, std=[0.2] * 3)
    with pytest.warns(UserWarning, match="no gradient flows through PerImage"):
        mix = SuperMix(views="auto", **OPTIONS)(module(), IMAGES, seed=0, view=policy)
    assert mix.teacher_logits is not None
    torch.testing.assert_close(mix.teacher_logits, module()(mix.images).detach())


@pytest.mark.parametrize("on_unsolved", ["keep", "source", "mixup"])
def test_without_early_stopping_only_what_is_not_finite_is_given_up(on_unsolved: Any) -> None:
    images, labels = mark(IMAGES, 3), module()(IMAGES).argmax(dim=1)
    mix = SuperMix(**OPTIONS, on_unsolved=on_unsolved)(BlindToMarked(module()), images, labels, seed=0)
    lost = torch.tensor([row in (2, 3) for row in range(8)])
    assert mix.non_finite.equal(lost)
    assert mix.images[lost].equal(images[lost])
    assert mix.mix_weights[lost, 0].eq(1).all()
    assert mix.mix_weights[~lost, 0].lt(1).all()
    kept = SuperMix(**OPTIONS)(BlindToMarked(module()), images, labels, seed=0)
    assert mix.images.equal(kept.images)
    assert (mix.outcomes[~lost] == Outcome.CAPPED).any()


@pytest.mark.parametrize(
    ("early_stop", "on_unsolved"), [(True, "keep"), (True, "source"), (True, "mixup"), (False, "mixup")]
)
def test_settled_masks_are_those_that_a_batch_is_given(early_stop: bool, on_unsolved: Any) -> None:
    """What the stream keeps of a set, on the mask grid, mixes as what the batch engine makes of it."""
    images, labels = mark(IMAGES, 3), module()(IMAGES).argmax(dim=1)
    options: dict[str, Any] = {"mask_size": 4, "max_steps": 2, "early_stop": early_stop}
    kept = Mixer(**options)(BlindToMarked(module()), images, labels, seed=0)
    mix = Mixer(**options, on_unsolved=on_unsolved)(BlindToMarked(module()), images, labels, seed=0)
    outcomes = kept.outcomes
    assert len(outcomes.unique()) == 3 or not early_stop
    solved = torch.zeros(8, 2, 4, 4)
    solved[:, 0] = torch.linspace(-2, 2, 8)[:, None, None]
    logits, weights = Mixer(**options, on_unsolved=on_unsolved).settle(solved, kept.mix_weights, outcomes)
    masks = normalized_masks(logits, (12, 12))
    treated = outcomes != (Outcome.SOLVED if early_stop and on_unsolved != "keep" else 99)
    treated &= (outcomes == Outcome.NON_FINITE) | (early_stop and on_unsolved != "keep")
    torch.testing.assert_close(weights, mix.mix_weights)
    torch.testing.assert_close(masks[treated], mix.masks[treated], atol=1e-5, rtol=0)
    assert logits[~treated].equal(solved[~treated])


def test_known_logits_of_the_natural_images_spare_their_pass() -> None:
    counting = Counting(module())
    teacher, mixer = FrozenTeacher(counting), SuperMix(views="auto", **OPTIONS)
    expected = mixer(teacher, IMAGES, seed=0)
    logits, counting.forwards = teacher(IMAGES), 0
    mix = mixer(teacher, IMAGES, seed=0, natural_logits=logits)
    assert counting.forwards == mix.teacher_forwards == expected.teacher_forwards - 8
    torch.testing.assert_close(mix.images, expected.images)
    assert mix.natural_logits is logits


def test_generators_are_put_back_after_an_error_too() -> None:
    def transform(images: Tensor) -> Tensor:
        torch.rand(())
        raise LookupError

    images = torch.rand(1, 3, 2, 2)
    before = torch.get_rng_state()
    with pytest.raises(LookupError):
        Viewer(transform, (0,))(images, torch.tensor([0]), torch.tensor([0]))
    assert torch.equal(torch.get_rng_state(), before)


def test_half_precision_is_rounded_before_the_teacher_looks() -> None:
    """Of a batch in bfloat16 also the solver sees what the student would get."""
    seen: list[Tensor] = []

    class Seeing(SmoothTeacher):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.detach().clone())
            return super().forward(images)

    teacher = FrozenTeacher(Seeing().float(), fold=False)
    seen.clear()
    mix = SuperMix(views="auto", **OPTIONS)(teacher, IMAGES.bfloat16(), seed=0, view=RandomCropFlip())
    assert len(seen) == 5
    assert all(images.equal(images.bfloat16().float()) for images in seen)
    assert seen[-1].equal(mix.images.float())


def test_a_viewer_is_what_a_round_is_shown_through() -> None:
    """The shown mixes of a batch are the masks' mixes under the last look of their keys."""
    view = RandomCropFlip(padding=2)
    mix = SuperMix(views=view, **OPTIONS)(module(), IMAGES, seed=5, view=view)
    plain = mix_images(IMAGES[mix.source_indices], mix.masks)
    candidates = [Viewer(view, (0,))(plain, torch.full((8,), key), torch.zeros(8).long()) for key in range(400)]
    found = torch.stack([torch.isclose(one, mix.images, atol=1e-6).flatten(1).all(dim=1) for one in candidates]).any(0)
    assert found.all()
