"""What a picture of mixes shows, whatever is known of them."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supermix_pl import FrozenTeacher, MixedBatch
from supermix_pl.pictures.grid import sets_to_show, titled_grid
from supermix_pl.pictures.tensors import denormalize, displayable
from tests.integration.toys import MIXER, Teacher, natural_data


def mixed(count: int = 3, **changes: Any) -> tuple[Tensor, MixedBatch]:
    images, _ = natural_data(count)
    mix = MIXER(FrozenTeacher(Teacher()), images, seed=0)
    return images, dataclasses.replace(mix, **changes)


def out_of_a_pool(grid: int) -> tuple[Tensor, MixedBatch]:
    """Sources unknown, masks of another size or none."""
    return mixed(source_indices=torch.full((3, 2), -1), masks=torch.full((3, 2, grid, grid), 0.5))


def test_sources_masks_mix_and_their_words() -> None:
    images, mix = mixed()
    sets = sets_to_show(images, mix, class_names=["red", "green", "blue"], count=2)
    assert sets.sources is not None
    assert torch.equal(sets.sources, images[mix.source_indices[:2]])
    assert sets.masks is not None
    assert torch.equal(sets.masks, mix.masks[:2])
    assert torch.equal(sets.mixes, mix.images[:2])
    first = ["red", "green", "blue"][int(mix.source_classes[0, 0])]
    assert sets.names[0][0] == f"{first} {float(mix.mix_weights[0, 0]):.2f}"
    assert mix.teacher_logits is not None
    likeliest = mix.teacher_logits[0].softmax(0).max()
    assert sets.seen[0][0].endswith(f"{float(likeliest):.2f}")
    assert sets.good == mix.solved[:2].tolist()


def test_bold_is_what_holds_in_the_view_that_is_shown() -> None:
    images, mix = mixed()
    holds = ~mix.solved
    assert sets_to_show(images, dataclasses.replace(mix, holds=holds)).good == holds.tolist()


def test_numbers_where_names_are_missing() -> None:
    images, mix = mixed()
    label = int(mix.source_classes[0, 0])
    assert sets_to_show(images, mix).names[0][0].startswith(f"class {label} ")
    assert sets_to_show(images, mix, class_names=[]).names[0][0].startswith(f"class {label} ")


def test_a_long_name_is_cut_where_one_sees_it() -> None:
    images, mix = mixed()
    names = ["rhinoceros beetle", "sixteen letters!", "sixteen letters!"]
    words = {name.rsplit(" ", 1)[0] for row in sets_to_show(images, mix, class_names=names).names for name in row}
    assert words <= {"rhinoceros beet…", "sixteen letters!"}
    assert "rhinoceros beet…" in words


def test_cells_are_as_wide_and_tall_as_the_images() -> None:
    images, mix = mixed()
    heights = []
    for rows in (12, 6, 24):
        sized = dataclasses.replace(mix, images=mix.images.repeat(1, 1, 3, 3)[:, :, :rows, :12])
        heights.append(len(titled_grid(sets_to_show(images, sized))))
    square, flat, upright = heights
    assert square - flat == pytest.approx((upright - square) / 2, abs=2)
    assert flat < square


def test_mixes_of_a_pool_have_no_sources_and_maybe_no_masks() -> None:
    sets = sets_to_show(*out_of_a_pool(grid=4))
    assert sets.sources is None
    assert sets.masks is not None
    assert sets_to_show(*out_of_a_pool(grid=0)).masks is None


@pytest.mark.parametrize("kind", ["all", "coarse masks", "mix alone", "no teacher", "other size", "one channel"])
def test_draws_what_is_there(kind: str) -> None:
    images, mix = (
        out_of_a_pool(4 if kind == "coarse masks" else 0) if kind in ("coarse masks", "mix alone") else mixed()
    )
    if kind == "no teacher":
        mix.teacher_logits = None
    elif kind == "other size":  # mode="replace" under a crop
        mix.images = mix.images[:, :, 2:, 1:]
    elif kind == "one channel":
        images, mix.images = images[:, :1], mix.images[:, :1]
    picture = titled_grid(sets_to_show(images, mix))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert picture.max() > picture.min()


def test_normalised_images_come_back_to_colours() -> None:
    images = torch.rand(2, 3, 4, 4)
    (back,) = displayable([(images - 0.5) / 0.25], [0.5] * 3, [0.25] * 3)
    torch.testing.assert_close(back, images)


def test_unknown_normalisation_is_stretched_alike_for_all() -> None:
    first, second = displayable([torch.full((1, 3, 2, 2), -1.0), torch.tensor([0.0, 3.0]).expand(1, 3, 1, 2)])
    assert torch.equal(first, torch.zeros(1, 3, 2, 2))
    assert second[0, 0, 0].tolist() == [0.25, 1.0]


def test_images_in_the_unit_range_and_other_channels() -> None:
    images = torch.rand(2, 5, 4, 4)
    (shown,) = displayable([images])
    torch.testing.assert_close(shown, images.mean(dim=1, keepdim=True))


def test_statistics_come_in_pairs() -> None:
    images = torch.rand(2, 3, 4, 4)
    with pytest.raises(ValueError, match="expected mean and std together, got only one of them"):
        denormalize(images, mean=[0.5] * 3)
    with pytest.raises(ValueError, match="expected mean and std together, got only one of them"):
        displayable([images], std=[0.5] * 3)
