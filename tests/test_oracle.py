"""The oracle against what does not come from it: finite differences, torch's operators, results known by hand."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests import oracle

COMMON = {"lambda_s": 25.0, "sigma": 1.0, "min_steps": 1, "max_steps": 20}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tensors are tiny here: a second thread would only wait for the first."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def smooth_teacher(num_classes: int = 6, seed: int = 0) -> oracle.Teacher:
    """A nonlinear teacher, smooth enough for finite differences."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(5, 3, 3, 3, generator=generator, dtype=torch.float64)
    last = torch.randn(num_classes, 5 * 4, generator=generator, dtype=torch.float64)

    def teacher(images: Tensor) -> Tensor:
        hidden = torch.tanh(F.conv2d(images, first.to(images), padding=1))
        return F.adaptive_avg_pool2d(hidden, 2).flatten(1) @ last.to(images).T * 3

    return teacher


def half_teacher() -> oracle.Teacher:
    """Linear: class 0 is light on the left, class 1 on the right, class 2 lies between the average and the best mix."""

    def teacher(images: Tensor) -> Tensor:
        width = images.shape[-1]
        left, right = images[..., : width // 2].mean((1, 2, 3)), images[..., width // 2 :].mean((1, 2, 3))
        return torch.stack([4 * left, 4 * right, torch.full_like(left, 3.0)], dim=1)

    return teacher


def half_sources(dtype: torch.dtype = torch.float64) -> Tensor:
    sources = torch.zeros(2, 3, 16, 16, dtype=dtype)
    sources[0, :, :, :8] = 1.0
    sources[1, :, :, 8:] = 1.0
    return sources


def random_set(k: int, size: tuple[int, int] = (12, 9), seed: int = 0) -> tuple[Tensor, list[int], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sources = torch.randn(k, 3, *size, generator=generator, dtype=torch.float64)
    weights = torch.rand(k, generator=generator, dtype=torch.float64) + 0.2
    return sources, list(range(k)), weights / weights.sum()


def random_grid(*shape: int, scale: float = 1.0, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=scale, size=shape)


@pytest.mark.parametrize(
    ("cells", "pixels"), [((4, 3), (12, 9)), ((8, 8), (32, 32)), ((5, 7), (13, 7)), ((1, 3), (6, 8)), ((4, 4), (4, 4))]
)
def test_bilinear_equals_interpolate(cells: tuple[int, int], pixels: tuple[int, int]) -> None:
    logits = random_grid(3, *cells)
    expected = F.interpolate(torch.from_numpy(logits)[None], size=pixels, mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(oracle.upsample(logits, pixels), expected.numpy(), atol=1e-13)


def test_up_sampling_and_its_transpose_are_adjoint() -> None:
    cells, pixels = random_grid(2, 5, 4), random_grid(2, 13, 9, seed=2)
    there, back = oracle.upsample(cells, (13, 9)), oracle.upsample_transposed(pixels, (5, 4))
    np.testing.assert_allclose((there * pixels).sum(), (cells * back).sum(), rtol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_masks_sum_to_one_and_are_equation_4(k: int) -> None:
    logits = random_grid(k, 6, 5, scale=3.0)
    masks = oracle.normalise(logits)
    sigmoid = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(masks, sigmoid / sigmoid.sum(0), rtol=1e-12)
    far = oracle.normalise(random_grid(k, 6, 5, scale=1e6) - 2e6)
    np.testing.assert_allclose(far.sum(0), 1.0, rtol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("tv_weight", [0.0, 250.0])
def test_gradient_equals_finite_differences(k: int, tv_weight: float) -> None:
    sources, classes, weights = random_set(k)
    teacher, x = smooth_teacher(), sources.numpy()
    target = oracle.soft_target(classes, weights.numpy(), 6)
    logits = random_grid(k, 4, 3)

    def value_and_gradient(at: np.ndarray) -> tuple[float, np.ndarray]:
        return oracle.objective(oracle.evaluate(teacher, x, at), x, target, (4, 3), 25.0, tv_weight)

    _, gradient = value_and_gradient(logits)
    numeric, step = np.zeros_like(logits), 1e-5
    for index in np.ndindex(logits.shape):
        ahead, behind = logits.copy(), logits.copy()
        ahead[index] += step
        behind[index] -= step
        numeric[index] = (value_and_gradient(ahead)[0] - value_and_gradient(behind)[0]) / (2 * step)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-8)


def test_gradient_equals_autograd_through_torchs_operators() -> None:
    sources, _, weights = random_set(3)
    classes, teacher, logits = [2, 0, 2], smooth_teacher(), torch.from_numpy(random_grid(3, 4, 3)).requires_grad_()
    target = torch.zeros(6, dtype=torch.float64).index_add(0, torch.tensor(classes), weights)
    sigmoid = F.interpolate(logits[None], (12, 9), mode="bilinear")[0].sigmoid()
    masks = sigmoid / sigmoid.sum(0)
    log_f = teacher((sources * masks[:, None]).sum(0, keepdim=True)).log_softmax(1)[0]
    expected = F.kl_div(log_f, target, reduction="sum") + 25 * (masks * (1 - masks)).mean()
    expected.backward()

    x = sources.numpy()
    at = oracle.evaluate(teacher, x, logits.detach().numpy())
    value, gradient = oracle.objective(at, x, oracle.soft_target(classes, weights.numpy(), 6), (4, 3), 25.0, 0.0)
    assert logits.grad is not None
    np.testing.assert_allclose(value, expected.item(), rtol=1e-12)
    np.testing.assert_allclose(gradient, logits.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_sparsity_has_no_gradient_at_masks_of_zero(k: int) -> None:
    logits = np.zeros((k, 8, 8))
    value, gradient = oracle.sparsity(oracle.normalise(logits))
    np.testing.assert_allclose(value, (k - 1) / k**2, rtol=1e-14)
    np.testing.assert_allclose(oracle.normalise_transposed(gradient, logits), 0.0, atol=1e-16)


@pytest.mark.parametrize("k", [2, 3])
def test_lambda_s_only_lengthens_the_first_step(k: int) -> None:
    sources, classes, weights = random_set(k)
    target = oracle.soft_target(classes, weights.numpy(), 6)

    def kl_and_first_step(lambda_s: float) -> tuple[float, np.ndarray]:
        at = oracle.evaluate(smooth_teacher(), sources.numpy(), np.zeros((k, 4, 3)))
        step = oracle.newton_update(*oracle.objective(at, sources.numpy(), target, (4, 3), lambda_s, 0.0), 1.0)
        return oracle.divergence(at.teacher_logits, target)[0], step

    kl, step = kl_and_first_step(0.0)
    _, longer_step = kl_and_first_step(25.0)
    np.testing.assert_allclose(longer_step, step * (kl + 25 * (k - 1) / k**2) / kl, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.0, 1.0, 2.0])
def test_equation_7_solves_the_first_order_equation(sigma: float) -> None:
    gradient = random_grid(2, 8, 8)
    update = oracle.newton_update(0.7, gradient, sigma)
    np.testing.assert_allclose(0.7 + (gradient * update).sum(), 0.0, atol=1e-8)


def test_length_of_the_newton_step_is_clamped() -> None:
    flat, steep = np.full((2, 4, 4), 1e-9), np.full((2, 4, 4), 1e4)
    np.testing.assert_allclose(oracle.newton_update(1.0, flat, 0.0), -2000.0 * flat)
    np.testing.assert_allclose(oracle.newton_update(1.0, steep, 0.0), -1e-4 * steep)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.0])
def test_smoothing_is_a_centred_convolution_with_zeros_outside(sigma: float) -> None:
    kernel = torch.from_numpy(oracle.gaussian_kernel(sigma))
    radius = int(np.ceil(3 * sigma))
    assert kernel.shape == (2 * radius + 1,)
    assert kernel.sum().item() == pytest.approx(1.0, abs=1e-14)
    assert (kernel[radius] / kernel[radius + 1]).item() == pytest.approx(np.exp(1 / (2 * sigma**2)))
    grid = random_grid(7, 5)
    expected = F.conv2d(torch.from_numpy(grid)[None, None], torch.outer(kernel, kernel)[None, None], padding=radius)[
        0, 0
    ]
    np.testing.assert_allclose(oracle.smooth(grid, sigma), expected.numpy(), atol=1e-14)


def test_total_variation_by_hand() -> None:
    mask = np.zeros((1, 2, 3))
    mask[0, 0, 1] = 1.0  # differences: 1 right at (0, 0); -1 right and -1 down at (0, 1)
    value, _ = oracle.total_variation(mask)
    assert value == pytest.approx((1 + 2 ** (1 / 3)) / 6)
    flat_value, flat_gradient = oracle.total_variation(np.full((2, 3, 3), 0.5))
    assert flat_value == 0.0
    assert not flat_gradient.any()


@pytest.mark.parametrize("update_rule", ["newton_sp", "newton", "sgd"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loop_solves_a_linear_teacher(update_rule: oracle.UpdateRule, dtype: torch.dtype) -> None:
    # The plain average gives the logits (2, 2, 3); the right halves of both sources give (4, 4, 3).
    solved = oracle.solve_one(
        half_teacher(), half_sources(dtype), [0, 1], [0.5, 0.5], mask_size=(4, 4), update_rule=update_rule,
        learning_rate=50.0, **{**COMMON, "lambda_s": 1.0, "max_steps": 60}, tv_weight=0.1,
    )  # fmt: skip
    assert solved.outcome == "solved"
    assert 1 <= solved.num_steps < 60
    assert (solved.forwards, solved.backwards) == (solved.num_steps + 1, solved.num_steps)
    assert solved.teacher_logits[:2].min() > solved.teacher_logits[2]
    assert solved.masks[0, :, :8].mean() > 0.6 > 0.4 > solved.masks[0, :, 8:].mean()
    assert solved.image.dtype == solved.masks.dtype == solved.mask_logits.dtype == dtype
    torch.testing.assert_close(solved.masks.sum(0), torch.ones(16, 16, dtype=dtype))
    torch.testing.assert_close(half_teacher()(solved.image[None])[0], solved.teacher_logits)


def test_min_steps_decides_whether_the_plain_average_may_pass() -> None:
    sources, classes = half_sources(), [0, 1]
    settings = {"mask_size": (4, 4), "lambda_s": 1.0, "sigma": 1.0, "max_steps": 5}

    def bright_teacher(images: Tensor) -> Tensor:
        return half_teacher()(images) - images.new_tensor([0.0, 0.0, 2.0])

    to_the_letter = oracle.solve_one(bright_teacher, sources, classes, [0.5, 0.5], min_steps=0, **settings)
    assert (to_the_letter.outcome, to_the_letter.num_steps, to_the_letter.forwards, to_the_letter.backwards) == (
        "solved",
        0,
        1,
        0,
    )
    torch.testing.assert_close(to_the_letter.image, sources.mean(0))
    at_least_two = oracle.solve_one(bright_teacher, sources, classes, [0.5, 0.5], min_steps=2, **settings)
    assert (at_least_two.outcome, at_least_two.num_steps) == ("solved", 2)


def test_capped_set_returns_the_first_iterate_of_largest_margin() -> None:
    logits_by_call = iter([[0, 0, 0.1], [0, 0, 0.2], [0, 0, 5], [4, 0, 3], [0, 0, 1], [2, 1, 2], [0, 0, 4]])

    def scripted(images: Tensor) -> Tensor:
        return images.new_tensor([next(logits_by_call)]) + 0 * images.sum()

    settings = {"mask_size": (4, 4), **COMMON, "min_steps": 2, "max_steps": 6}
    capped = oracle.solve_one(scripted, half_sources(), [0, 1], [0.8, 0.2], **settings)
    assert (capped.outcome, capped.num_steps, capped.forwards, capped.backwards) == ("capped", 6, 7, 6)
    assert capped.teacher_logits.tolist() == [0, 0, 1]  # t = 4; t = 0, 1 come too early and t = 5 only ties
    assert next(logits_by_call, None) is None


def test_capped_set_returns_masks_of_that_iterate() -> None:
    def unreachable(images: Tensor) -> Tensor:
        return half_teacher()(images) + images.new_tensor([0.0, 0.0, 100.0])

    sources = half_sources() * torch.tensor([1.0, 0.5], dtype=torch.float64)[:, None, None, None]
    capped = oracle.solve_one(unreachable, sources, [0, 1], [0.8, 0.2], mask_size=(4, 4), max_logit_step=1.0, **COMMON)
    assert capped.outcome == "capped"
    assert capped.mask_logits.abs().max() == pytest.approx(
        1.0
    )  # one bounded step: the second class only loses from here
    torch.testing.assert_close(unreachable(capped.image[None])[0], capped.teacher_logits)
    torch.testing.assert_close((sources * capped.masks[:, None]).sum(0), capped.image)


def test_equal_logits_do_not_count_as_solved() -> None:
    def undecided(images: Tensor) -> Tensor:
        return images.sum((1, 2, 3))[:, None] * images.new_zeros(1, 4)

    result = oracle.solve_one(
        undecided, half_sources(), [0, 1], [0.5, 0.5], mask_size=(4, 4), **{**COMMON, "max_steps": 3}
    )
    assert result.outcome == "capped"
    assert not result.mask_logits.any()  # all iterates tie, none of them moves: the gradient is 0


@pytest.mark.parametrize("update_rule", ["newton_sp", "newton", "sgd"])
def test_one_step_of_each_rule(update_rule: oracle.UpdateRule) -> None:
    sources, classes, weights = random_set(2)
    start = torch.from_numpy(random_grid(2, 4, 3))
    settings = {"mask_size": (4, 3), **COMMON, "max_steps": 1, "init_logits": start}
    result = oracle.solve_one(smooth_teacher(), sources, classes, weights, update_rule=update_rule, **settings)

    at = oracle.evaluate(smooth_teacher(), sources.numpy(), start.numpy())
    target = oracle.soft_target(classes, weights.numpy(), 6)
    tv_weight = 0.0 if update_rule == "newton_sp" else 250.0
    value, gradient = oracle.objective(at, sources.numpy(), target, (4, 3), 25.0, tv_weight)
    direction = np.stack([oracle.smooth(grid, 1.0) for grid in gradient]) if update_rule == "newton_sp" else gradient
    length = 0.1 if update_rule == "sgd" else value / (direction * gradient).sum()
    np.testing.assert_allclose((result.mask_logits - start).numpy(), -length * direction, rtol=1e-6)


def test_bound_is_the_largest_change_of_one_logit() -> None:
    sources, classes, weights = random_set(2)
    start = torch.from_numpy(random_grid(2, 4, 3))
    settings = {"mask_size": (4, 3), **COMMON, "max_steps": 1, "init_logits": start}
    free = oracle.solve_one(smooth_teacher(), sources, classes, weights, **settings).mask_logits - start
    bounded = (
        oracle.solve_one(smooth_teacher(), sources, classes, weights, max_logit_step=0.25, **settings).mask_logits
        - start
    )
    assert free.abs().max() > 0.25
    torch.testing.assert_close(bounded, free * 0.25 / free.abs().max())


def test_repeated_classes_form_one_target_and_one_test() -> None:
    np.testing.assert_allclose(oracle.soft_target([1, 3, 1], np.array([0.2, 0.5, 0.3]), 4), [0.0, 0.5, 0.0, 0.5])
    assert oracle.lowest_and_highest(np.array([5.0, 2.0, 3.0]), [0, 0]) == (5.0, 3.0)
    assert oracle.lowest_and_highest(np.array([5.0, 2.0]), [0, 1]) == (2.0, -np.inf)


def test_one_source_is_its_own_mix() -> None:
    sources, _, weights = random_set(1)
    result = oracle.solve_one(smooth_teacher(), sources, [0], weights, mask_size=(4, 3), **{**COMMON, "max_steps": 2})
    torch.testing.assert_close(result.image, sources[0])
    assert not result.mask_logits.any()


def test_non_finite_teacher_ends_the_set() -> None:
    calls = []

    def failing(images: Tensor) -> Tensor:
        calls.append(1)
        return (
            smooth_teacher()(images) - 100 * F.one_hot(torch.tensor(0), 6) + (float("nan") if len(calls) == 3 else 0.0)
        )

    sources, classes, weights = random_set(2)
    result = oracle.solve_one(failing, sources, classes, weights, mask_size=(4, 3), **COMMON)
    assert (result.outcome, result.num_steps, result.forwards, result.backwards) == ("non_finite", 2, 3, 2)


def test_teacher_is_left_alone() -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 9, 6)).double().eval()
    sources, classes, weights = random_set(2)
    oracle.solve_one(teacher, sources, classes, weights, mask_size=(4, 3), **COMMON)
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("mask_size", [(4, 3), (5, 4), (12, 9)])
def test_saliency_equals_torchs_pooling_and_is_standardised_over_the_set(mask_size: tuple[int, int]) -> None:
    sources, classes, _ = random_set(2)
    teacher = smooth_teacher()
    leaf = sources.clone().requires_grad_()
    teacher(leaf)[[0, 1], classes].sum().backward()
    assert leaf.grad is not None
    pooled = F.adaptive_avg_pool2d((sources * leaf.grad).abs().sum(1), mask_size)
    saliencies = [
        oracle.saliency_one(teacher, image, c, mask_size=mask_size, sigma=1.0)
        for image, c in zip(sources, classes, strict=True)
    ]
    for saliency, expected in zip(saliencies, pooled, strict=True):
        np.testing.assert_allclose(saliency.numpy(), oracle.smooth(expected.numpy(), 1.0), rtol=1e-10)
    start = oracle.saliency_init(saliencies)
    assert start.shape == (2, *mask_size)
    assert start.mean().item() == pytest.approx(0.0, abs=1e-12)
    assert start.std(correction=0).item() == pytest.approx(1.0, abs=1e-6)
