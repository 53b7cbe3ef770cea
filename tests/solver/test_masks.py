"""Up-sampling, Eq. 4 and Eq. 1."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from supermix_pl.solver.masks import mix_images, normalized_masks, upsample
from tests import oracle
from tests.problems import repeatable

SIDES = st.integers(1, 9)


def random_logits(*shape: int, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(cells=st.tuples(SIDES, SIDES), more=st.tuples(st.integers(0, 20), st.integers(0, 20)))
@repeatable
def test_up_sampling_equals_interpolate(cells: tuple[int, int], more: tuple[int, int]) -> None:
    size = (cells[0] + more[0], cells[1] + more[1])
    grids = random_logits(2, 3, *cells)
    expected = F.interpolate(grids, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(upsample(grids, size), expected, rtol=1e-12, atol=1e-12)


def test_gradient_of_up_sampling_equals_that_of_interpolate() -> None:
    grids, pixels = random_logits(2, 5, 4).requires_grad_(), random_logits(2, 13, 9, seed=1)
    (ours,) = torch.autograd.grad((upsample(grids, (13, 9)) * pixels).sum(), grids)
    expected = F.interpolate(grids[None], size=(13, 9), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(ours, torch.autograd.grad((expected * pixels).sum(), grids)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_up_sampling_keeps_the_dtype(dtype: torch.dtype) -> None:
    assert upsample(random_logits(1, 2, 4, 4).to(dtype), (8, 8)).dtype == dtype


def test_up_sampling_matrices_can_be_differentiated_after_inference_mode() -> None:
    with torch.inference_mode():
        upsample(torch.zeros(3, 4), (17, 19))
    grids = torch.zeros(3, 4, requires_grad=True)
    upsample(grids, (17, 19)).sum().backward()
    assert grids.grad is not None
    torch.testing.assert_close(grids.grad.sum(), torch.tensor(17.0 * 19.0))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_equation_4(k: int) -> None:
    logits = random_logits(3, k, 4, 5, scale=3.0)
    masks = normalized_masks(logits, (8, 10))
    sigmoids = upsample(logits, (8, 10)).sigmoid()
    torch.testing.assert_close(masks, sigmoids / sigmoids.sum(dim=1, keepdim=True), rtol=1e-10, atol=1e-12)
    expected = torch.from_numpy(oracle.normalise(oracle.upsample(logits[1].numpy(), (8, 10))))
    torch.testing.assert_close(masks[1], expected, rtol=1e-10, atol=1e-12)


@given(
    logits=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=3 * 2 * 2, max_size=3 * 2 * 2),
    scale=st.sampled_from([1e-30, 1.0, 1e4]),
)
@repeatable
def test_masks_lie_in_0_to_1_and_sum_to_1_for_any_finite_logits(logits: list[float], scale: float) -> None:
    masks = normalized_masks(scale * torch.tensor(logits).view(1, 3, 2, 2), (5, 4))
    assert ((masks >= 0) & (masks <= 1)).all()
    torch.testing.assert_close(masks.sum(dim=1), torch.ones(1, 5, 4), rtol=0, atol=1e-5)


def test_gradient_is_finite_where_all_sources_are_far_below_zero() -> None:
    logits = torch.full((1, 3, 2, 2), -1e4)
    logits[:, 0] -= 1e3
    logits.requires_grad_()
    normalized_masks(logits, (4, 4))[:, 0].sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_one_source_has_the_whole_image() -> None:
    assert torch.equal(normalized_masks(random_logits(2, 1, 3, 3, scale=50.0), (6, 6)), torch.ones(2, 1, 6, 6).double())


def test_equation_1() -> None:
    sources, masks = random_logits(2, 3, 4, 5, 6), random_logits(2, 3, 5, 6, seed=1)
    torch.testing.assert_close(mix_images(sources, masks), torch.einsum("bkchw,bkhw->bchw", sources, masks))
    expected = oracle.mix(sources[1].numpy(), masks[1].numpy())
    torch.testing.assert_close(mix_images(sources, masks)[1], torch.from_numpy(expected))
