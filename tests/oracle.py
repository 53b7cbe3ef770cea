"""SuperMix solved slowly, one set at a time, from Sections 3.1-3.3 of Dabouei et al., 2021, and notes on them.

It shares no code and no shortcut with `supermix_pl`: numpy, every derivative by hand, autograd only inside the teacher.
Arrays keep the dtype of the images, so that a comparison can be made in float64.
Shapes: k sources, c h w image, (sh, sw) mask grid, n classes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
Teacher = Callable[[Tensor], Tensor]
Outcome = Literal["solved", "capped", "non_finite"]
UpdateRule = Literal["newton_sp", "newton", "sgd"]
Objective = Literal["paper", "criterion"]

SHORTEST_STEP, LONGEST_STEP, STEP_EPSILON = 1e-4, 2000.0, 1e-10


@dataclass(frozen=True)
class OracleResult:
    mask_logits: Tensor  # (k, sh, sw)
    masks: Tensor  # (k, h, w), sum to 1 over k
    image: Tensor  # (c, h, w)
    teacher_logits: Tensor  # (n,), of that image
    outcome: Outcome
    num_steps: int
    forwards: int
    backwards: int


# Masks: from logits on the mask grid to Eq. 4 and Eq. 1, and the way back of a gradient


def interpolation_weights(num_pixels: int, num_cells: int) -> Array:
    """(num_pixels, num_cells): share of each cell in each pixel of one axis; half-pixel centres, clamped border."""
    weights = np.zeros((num_pixels, num_cells))
    for pixel in range(num_pixels):
        position = (pixel + 0.5) * num_cells / num_pixels - 0.5  # pixel's centre, in cells; cell j has its centre at j
        position = min(max(position, 0.0), num_cells - 1.0)
        below = math.floor(position)
        above = min(below + 1, num_cells - 1)
        fraction = position - below
        weights[pixel, below] += 1.0 - fraction
        weights[pixel, above] += fraction
    return weights


def upsample(mask_logits: Array, image_size: tuple[int, int]) -> Array:
    """(k, sh, sw) -> (k, h, w), bilinear."""
    rows = interpolation_weights(image_size[0], mask_logits.shape[1]).astype(mask_logits.dtype)
    columns = interpolation_weights(image_size[1], mask_logits.shape[2]).astype(mask_logits.dtype)
    return np.stack([rows @ one @ columns.T for one in mask_logits])


def upsample_transposed(pixel_gradient: Array, mask_size: tuple[int, int]) -> Array:
    """(k, h, w) -> (k, sh, sw): the gradient of what was up-sampled, given that of the pixels."""
    rows = interpolation_weights(pixel_gradient.shape[1], mask_size[0]).astype(pixel_gradient.dtype)
    columns = interpolation_weights(pixel_gradient.shape[2], mask_size[1]).astype(pixel_gradient.dtype)
    return np.stack([rows.T @ one @ columns for one in pixel_gradient])


def normalise(pixel_logits: Array) -> Array:
    """Eq. 4, m_i = s(a_i) / sum_j s(a_j), through log s(a) so that no logit, however negative, makes it 0 / 0."""
    log_sigmoid = -np.logaddexp(0.0, -pixel_logits)
    ratio = np.exp(log_sigmoid - log_sigmoid.max(axis=0))
    return ratio / ratio.sum(axis=0)


def normalise_transposed(mask_gradient: Array, pixel_logits: Array) -> Array:
    """The gradient with respect to a, given G with respect to m: dL/da_j = m_j (1 - s(a_j)) (G_j - sum_i m_i G_i).

    dm_i/ds_j = (delta_ij - m_i) / S with S = sum_j s_j, and ds_j/da_j = s_j (1 - s_j); then s_j / S = m_j.
    """
    masks = normalise(pixel_logits)
    one_minus_sigmoid = np.exp(-np.logaddexp(0.0, pixel_logits))
    mean_gradient = (masks * mask_gradient).sum(axis=0)
    return masks * one_minus_sigmoid * (mask_gradient - mean_gradient)


def mix(sources: Array, masks: Array) -> Array:
    """Eq. 1."""
    image = np.zeros_like(sources[0])
    for source, mask in zip(sources, masks, strict=True):
        image += source * mask
    return image


# Objective: KL, Eq. 5 and the total variation of Section 4.4, each with its derivative


def soft_target(classes: Sequence[int], weights: Array, num_classes: int) -> Array:
    """Eq. 2; sources of one class add up."""
    target = np.zeros(num_classes, dtype=weights.dtype)
    for source_class, weight in zip(classes, weights, strict=True):
        target[source_class] += weight
    return target


def divergence(logits: Array, target: Array) -> tuple[Any, Array]:
    """KL(y || f) = sum_j y_j (log y_j - log f_j), f = softmax(logits), and its gradient for them, f sum(y) - y."""
    shifted = logits - logits.max()
    log_f = shifted - np.log(np.exp(shifted).sum())
    value = logits.dtype.type(0.0)
    for y, log_probability in zip(target, log_f, strict=True):
        if y > 0:
            value += y * (np.log(y) - log_probability)
    return value, np.exp(log_f) * target.sum() - target


def sparsity(masks: Array) -> tuple[Any, Array]:
    """Eq. 5 with its sign put right: the mean of m (1 - m), and its gradient for the masks."""
    return (masks * (1 - masks)).mean(), (1 - 2 * masks) / masks.size


def total_variation(masks: Array) -> tuple[Any, Array]:
    """Mean of (|dx|^3 + |dy|^3)^(1/3) over masks and pixels, and its gradient for the masks.

    dx and dy are forward differences, 0 in the last column and row; where both are 0 the gradient is taken as 0.
    """
    dx, dy = np.zeros_like(masks), np.zeros_like(masks)
    dx[:, :, :-1] = masks[:, :, 1:] - masks[:, :, :-1]
    dy[:, :-1, :] = masks[:, 1:, :] - masks[:, :-1, :]
    largest = np.maximum(np.abs(dx), np.abs(dy))
    scale = np.where(largest > 0, largest, 1)  # cubes of small differences underflow; those of their ratios do not
    norm = scale * np.cbrt(np.abs(dx / scale) ** 3 + np.abs(dy / scale) ** 3)
    safe_norm = np.where(largest > 0, norm, 1)
    d_dx = np.sign(dx) * (np.abs(dx) / safe_norm) ** 2 / masks.size
    d_dy = np.sign(dy) * (np.abs(dy) / safe_norm) ** 2 / masks.size
    gradient = np.zeros_like(masks)
    gradient[:, :, 1:] += d_dx[:, :, :-1]
    gradient[:, :, :-1] -= d_dx[:, :, :-1]
    gradient[:, 1:, :] += d_dy[:, :-1, :]
    gradient[:, :-1, :] -= d_dy[:, :-1, :]
    return norm.mean(), gradient


def smooth_margin(logits: Array, classes: Sequence[int]) -> tuple[Any, Array]:
    """-log sum_Y exp(-z) - log sum_others exp(z), 0 where there are no others, and its gradient for the logits."""
    inside = sorted(set(classes))
    outside = [j for j in range(len(logits)) if j not in inside]
    gradient = np.zeros_like(logits)
    if not outside:
        return logits.dtype.type(0.0), gradient
    lowest, highest = logits[inside].min(), logits[outside].max()
    below, above = np.exp(lowest - logits[inside]), np.exp(logits[outside] - highest)
    gradient[inside] = below / below.sum()
    gradient[outside] = -above / above.sum()
    return lowest - np.log(below.sum()) - highest - np.log(above.sum()), gradient


class Evaluation(NamedTuple):
    """What one teacher forward at the masks m^t tells."""

    pixel_logits: Array  # (k, h, w)
    masks: Array  # (k, h, w)
    image: Array  # (c, h, w)
    teacher_logits: Array  # (n,)
    pull_back: Callable[[Array], Array]  # gradient for the teacher's logits (n,) -> gradient for the image (c, h, w)


def evaluate(teacher: Teacher, sources: Array, mask_logits: Array) -> Evaluation:
    pixel_logits = upsample(mask_logits, (sources.shape[2], sources.shape[3]))
    masks = normalise(pixel_logits)
    image = mix(sources, masks)
    with torch.enable_grad():
        leaf = torch.from_numpy(image.copy()).unsqueeze(0).requires_grad_()
        output = teacher(leaf)

    def pull_back(logit_gradient: Array) -> Array:
        row = torch.from_numpy(logit_gradient).unsqueeze(0).to(output)
        return torch.autograd.grad(output, leaf, row)[0][0].numpy()

    return Evaluation(pixel_logits, masks, image, output.detach()[0].numpy().astype(image.dtype), pull_back)


def objective(
    at: Evaluation,
    sources: Array,
    target: Array,
    mask_size: tuple[int, int],
    lambda_s: float,
    tv_weight: float,
    classes: Sequence[int] | None = None,
) -> tuple[Any, Array]:
    """L = KL + lambda_s L_s + tv_weight TV (0: the paper's L') and its gradient for the mask logits (k, sh, sw).

    With the classes of the sources, 1.5 times their smooth margin is taken off, which is not in the paper.
    """
    kl, logit_gradient = divergence(at.teacher_logits, target)
    if classes is not None:
        margin, margin_gradient = smooth_margin(at.teacher_logits, classes)
        kl, logit_gradient = kl - 1.5 * margin, logit_gradient - 1.5 * margin_gradient
    image_gradient = at.pull_back(logit_gradient)
    sparse, sparse_gradient = sparsity(at.masks)
    value = kl + lambda_s * sparse
    mask_gradient = (sources * image_gradient).sum(axis=1) + lambda_s * sparse_gradient
    if tv_weight != 0.0:
        rough, rough_gradient = total_variation(at.masks)
        value = value + tv_weight * rough
        mask_gradient = mask_gradient + tv_weight * rough_gradient
    return value, upsample_transposed(normalise_transposed(mask_gradient, at.pixel_logits), mask_size)


# Updates: Eq. 7 and the two baselines of Table 4


def gaussian_kernel(sigma: float) -> Array:
    """(2 radius + 1,) with radius ceil(3 sigma), sum 1. Sigma 0 is the identity."""
    if sigma == 0.0:
        return np.ones(1)
    radius = math.ceil(3 * sigma)
    taps = [math.exp(-(offset**2) / (2 * sigma**2)) for offset in range(-radius, radius + 1)]
    return np.array(taps) / math.fsum(taps)


def smooth(grid: Array, sigma: float) -> Array:
    """g_sigma on one (sh, sw) grid: what lies outside the grid counts as 0."""
    kernel = gaussian_kernel(sigma).astype(grid.dtype)
    radius = len(kernel) // 2
    height, width = grid.shape
    along_rows, smoothed = np.zeros_like(grid), np.zeros_like(grid)
    for x in range(width):
        for offset in range(-radius, radius + 1):
            if 0 <= x + offset < width:
                along_rows[:, x] += kernel[offset + radius] * grid[:, x + offset]
    for y in range(height):
        for offset in range(-radius, radius + 1):
            if 0 <= y + offset < height:
                smoothed[y] += kernel[offset + radius] * along_rows[y + offset]
    return smoothed


def newton_update(value: Any, gradient: Array, sigma: float) -> Array:
    """Eq. 7 over all k masks of the set together; sigma 0 is Newton without the smooth projection."""
    direction = np.stack([smooth(grid, sigma) for grid in gradient])
    length = value / ((direction * gradient).sum() + gradient.dtype.type(STEP_EPSILON))
    return -np.clip(length, SHORTEST_STEP, LONGEST_STEP).astype(gradient.dtype) * direction


def bound(update: Array, max_logit_step: float | None) -> Array:
    largest = np.abs(update).max()
    if max_logit_step is not None and largest > max_logit_step:
        return update * (max_logit_step / largest)
    return update


# The loop: Algorithm 1


def lowest_and_highest(teacher_logits: Array, classes: Sequence[int]) -> tuple[float, float]:
    """The smallest logit among the set's classes and the largest among all others (-inf when there are none)."""
    inside = [float(logit) for j, logit in enumerate(teacher_logits) if j in classes]
    outside = [float(logit) for j, logit in enumerate(teacher_logits) if j not in classes]
    return min(inside), max(outside, default=-math.inf)


def solve_one(
    teacher: Teacher,
    sources: Tensor,
    classes: Tensor | Sequence[int],
    weights: Tensor | Sequence[float],
    *,
    mask_size: tuple[int, int],
    lambda_s: float,
    sigma: float,
    min_steps: int,
    max_steps: int,
    update_rule: UpdateRule = "newton_sp",
    max_logit_step: float | None = None,
    momentum: float = 0.0,
    objective_name: Objective = "paper",
    init_logits: Tensor | None = None,
    tv_weight: float = 250.0,
    learning_rate: float = 0.1,
) -> OracleResult:
    """Algorithm 1 for one set (k, c, h, w): one forward at every t = 0..T, one backward for every step.

    Momentum, which is not in the paper, is Nesterov's: masks are tested where it would carry them.

    A solved set returns the iterate that passed the test, a capped one that of the largest margin (t >= min_steps,
    the first of several).
    A set with a non-finite teacher logit or mask returns the iterate where it was seen, whatever came before.
    """
    assert 0 <= min_steps <= max_steps
    x = sources.detach().numpy()
    k = x.shape[0]
    labels = [int(source_class) for source_class in classes]
    r = np.array([float(weight) for weight in weights], dtype=x.dtype)
    mask_logits = np.zeros((k, *mask_size), dtype=x.dtype)
    if init_logits is not None:
        mask_logits[:] = init_logits.detach().numpy()
    reached = mask_logits.copy()

    def result(logits: Array, at: Evaluation, outcome: Outcome, t: int) -> OracleResult:
        mask_logits, masks, image, teacher_logits = (
            torch.from_numpy(array.copy()) for array in (logits, at.masks, at.image, at.teacher_logits)
        )
        return OracleResult(mask_logits, masks, image, teacher_logits, outcome, t, forwards=t + 1, backwards=t)

    best: tuple[Array, Evaluation] | None = None
    best_margin = -math.inf
    last_update = np.zeros_like(mask_logits)
    deciding = labels if objective_name == "criterion" else None
    for t in range(max_steps + 1):
        at = evaluate(teacher, x, mask_logits)
        if not (np.isfinite(at.teacher_logits).all() and np.isfinite(at.masks).all()):
            return result(mask_logits, at, "non_finite", t)
        if t >= min_steps:
            lowest, highest = lowest_and_highest(at.teacher_logits, labels)
            if lowest > highest:
                return result(mask_logits, at, "solved", t)
            if best is None or lowest - highest > best_margin:
                best, best_margin = (mask_logits, at), lowest - highest
        if t == max_steps:
            break

        target = soft_target(labels, r, len(at.teacher_logits))
        if update_rule == "newton_sp":
            value, gradient = objective(at, x, target, mask_size, lambda_s, 0.0, deciding)
            update = newton_update(value, gradient, sigma)
        elif update_rule == "newton":
            value, gradient = objective(at, x, target, mask_size, lambda_s, tv_weight, deciding)
            update = newton_update(value, gradient, sigma=0.0)
        else:
            value, gradient = objective(at, x, target, mask_size, lambda_s, tv_weight, deciding)
            update = -learning_rate * gradient
        last_update = bound(update + momentum * last_update, max_logit_step)
        reached = reached + last_update
        mask_logits = reached + momentum * last_update

    assert best is not None
    return result(*best, "capped", max_steps)


def solve_fixed(
    teachers: Sequence[Teacher],
    sources: Tensor,
    classes: Tensor | Sequence[int],
    weights: Tensor | Sequence[float],
    *,
    mask_size: tuple[int, int],
    lambda_s: float,
    sigma: float,
    max_logit_step: float | None = None,
    momentum: float = 0.0,
    objective_name: Objective = "paper",
) -> tuple[Tensor, Tensor]:
    """One update for each teacher, whatever it sees: where it led, and the logits that the last update came from.

    Each teacher may look through a view of its own: that is a set solved under a fresh view in every round.
    """
    x = sources.detach().numpy()
    labels = [int(source_class) for source_class in classes]
    r = np.array([float(weight) for weight in weights], dtype=x.dtype)
    mask_logits = reached = np.zeros((len(x), *mask_size), dtype=x.dtype)
    last_update, seen = np.zeros_like(mask_logits), np.zeros(0)
    for teacher in teachers:
        at = evaluate(teacher, x, mask_logits)
        seen, target = at.teacher_logits, soft_target(labels, r, len(at.teacher_logits))
        deciding = labels if objective_name == "criterion" else None
        value, gradient = objective(at, x, target, mask_size, lambda_s, 0.0, deciding)
        last_update = bound(newton_update(value, gradient, sigma) + momentum * last_update, max_logit_step)
        reached = reached + last_update
        mask_logits = reached + momentum * last_update
    return torch.from_numpy(reached), torch.from_numpy(seen.copy())


def crop_and_flip(image: Tensor, top: int, left: int, *, mirrored: bool, padding: int) -> Tensor:
    """(c, h, w) -> (c, h, w): the part of the image in a border of zeros that begins at (top, left), then mirrored."""
    height, width = image.shape[1:]
    rows = []
    for y in range(top - padding, top - padding + height):
        pixels = []
        for x in range(left - padding, left - padding + width):
            inside = 0 <= y < height and 0 <= x < width
            pixels.append(image[:, y, x] if inside else torch.zeros_like(image[:, 0, 0]))
        rows.append(torch.stack(pixels[::-1] if mirrored else pixels, dim=1))
    return torch.stack(rows, dim=1)


# Saliency as a start


def pool_average(grid: Array, size: tuple[int, int]) -> Array:
    """(h, w) -> size; cell i averages rows floor(i h / sh) to ceil((i + 1) h / sh), so that cells may overlap."""
    height, width = grid.shape
    pooled = np.zeros(size, dtype=grid.dtype)
    for i in range(size[0]):
        top, bottom = i * height // size[0], -(-(i + 1) * height // size[0])
        for j in range(size[1]):
            left, right = j * width // size[1], -(-(j + 1) * width // size[1])
            pooled[i, j] = grid[top:bottom, left:right].mean()
    return pooled


def saliency_one(
    teacher: Teacher, image: Tensor, image_class: int, *, mask_size: tuple[int, int], sigma: float
) -> Tensor:
    """|image x gradient of the class's logit|, summed over channels, pooled to the mask grid, smoothed: (sh, sw)."""
    with torch.enable_grad():
        leaf = image.detach().clone().unsqueeze(0).requires_grad_()
        gradient = torch.autograd.grad(teacher(leaf)[0, image_class], leaf)[0][0]
    per_pixel = np.abs(image.detach().numpy() * gradient.numpy()).sum(axis=0)
    return torch.from_numpy(smooth(pool_average(per_pixel, mask_size), sigma))


def saliency_init(saliencies: Sequence[Tensor]) -> Tensor:
    """Mask logits to start from, (k, sh, sw): the saliencies of one set, standardised together."""
    stacked = np.stack([saliency.numpy() for saliency in saliencies])
    deviation = math.sqrt(((stacked - stacked.mean()) ** 2).mean())
    return torch.from_numpy((stacked - stacked.mean()) / (deviation + 1e-12))


def contrast_init(saliencies: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Mask logits to start from, (k, sh, sw): who has more of its own saliency at a place.

    The logarithms of the weights are added; the largest logit of every place is 0.
    """
    shares = np.stack([saliency.numpy() / saliency.numpy().sum() for saliency in saliencies])
    more = shares - shares.mean(axis=0)
    logits = 1.7 * more / (math.sqrt((more**2).mean()) + 1e-12)
    for grid, weight in zip(logits, weights, strict=True):
        grid += math.log(max(weight, 1e-3))
    return torch.from_numpy(logits - logits.max(axis=0))
