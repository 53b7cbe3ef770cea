"""Small problems in float64 for tests of the core: a smooth teacher, images it tells apart, teachers that count."""

from collections.abc import Callable

import torch
from hypothesis import settings
from torch import Tensor, nn
from torch.nn import functional as F

from supermix_pl.solver import Outcome, Sets, Solution, Solver, UpdateRule, solve
from supermix_pl.solver.criterion import class_membership
from supermix_pl.solver.masks import mix_images, normalized_masks
from supermix_pl.solver.objective import Objective, paper_objective
from supermix_pl.solver.rounds import Show, show_exactly
from supermix_pl.teacher.passes import Chunks

NUM_CLASSES = 6

repeatable = settings(deadline=None, max_examples=60, derandomize=True)
"""Settings of hypothesis: the same examples in every run, and no clock, because cores are shared."""


class SmoothTeacher(nn.Module):
    """Differentiable everywhere, so that two ways to compute a trajectory stay together for some steps."""

    def __init__(self, num_classes: int = NUM_CLASSES, *, channels: int = 3, seed: int = 0) -> None:
        super().__init__()
        chance = torch.Generator().manual_seed(seed)
        kernels = 0.4 * torch.randn(8, channels, 3, 3, generator=chance, dtype=torch.float64)
        head = torch.randn(num_classes, 8 * 4, generator=chance, dtype=torch.float64)
        self.kernels, self.head = nn.Parameter(kernels), nn.Parameter(head)
        self.register_buffer("centre", torch.zeros(num_classes, dtype=torch.float64))
        self.register_buffer("spread", torch.ones(num_classes, dtype=torch.float64))
        with torch.no_grad():
            logits = self(natural_images(64, channels=channels, seed=1000 + seed)) / 3
            self.centre, self.spread = logits.mean(dim=0), logits.std(dim=0)

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.tanh(F.conv2d(images, self.kernels, padding=1)).square()
        logits = F.linear(F.adaptive_avg_pool2d(hidden, 2).flatten(1), self.head)
        return 3 * (logits - self.centre) / self.spread


class FlatTeacher(nn.Module):
    """A linear map of the pixels: cheap, and no view of an image has the logits of another."""

    def __init__(self, num_classes: int = NUM_CLASSES, *, channels: int = 3, side: int = 8, seed: int = 0) -> None:
        super().__init__()
        chance = torch.Generator().manual_seed(seed)
        self.flatten, self.head = nn.Flatten(), nn.Linear(channels * side * side, num_classes)
        with torch.no_grad():
            self.head.weight.copy_(0.3 * torch.randn(self.head.weight.shape, generator=chance))
            self.head.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.flatten(images))


class Counting(nn.Module):
    """Counts the rows that pass a teacher forward, and the rows of gradients that come back."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.forwards, self.backwards = 0, 0

    def forward(self, images: Tensor) -> Tensor:
        self.forwards += len(images)
        logits = self.module(images)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)
        return logits

    def _count_backward(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


class BlindToMarked(nn.Module):
    """Gives NaN for images whose first pixel is above 1, which `mark` sees to; 1 / 3 of a marked image is enough."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        return self.module(images).masked_fill((images[:, 0, 0, 0] > 1)[:, None], torch.nan)


def mark(images: Tensor, *rows: int) -> Tensor:
    """Mark images for `BlindToMarked`, and no others."""
    marked = images.clone()
    marked[:, 0, 0, 0] = 0.0
    marked[list(rows), 0, 0, 0] = 9.0
    return marked


def natural_images(
    count: int,
    size: tuple[int, int] = (12, 12),
    *,
    channels: int = 3,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Smooth blobs with some noise; `SmoothTeacher` sees several classes in them."""
    chance = torch.Generator().manual_seed(seed)
    blobs = torch.randn(count, channels, 3, 3, generator=chance, dtype=torch.float64)
    noise = torch.randn(count, channels, *size, generator=chance, dtype=torch.float64)
    return (F.interpolate(blobs, size=size, mode="bicubic") + 0.3 * noise).to(dtype)


def random_weights(count: int, k: int, *, seed: int = 0) -> Tensor:
    weights = torch.rand(count, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.2
    return weights / weights.sum(dim=1, keepdim=True)


def make_sets(sources: Tensor, classes: Tensor, weights: Tensor, num_classes: int = NUM_CLASSES) -> Sets:
    targets = torch.zeros(len(sources), num_classes, dtype=sources.dtype).scatter_add_(1, classes, weights)
    return Sets(sources, targets, class_membership(classes, num_classes), torch.arange(len(sources)) * 7919)


def solve_sets(
    teacher: Callable[[Tensor], Tensor],
    sets: Sets,
    rule: UpdateRule,
    *,
    grid: tuple[int, int] = (4, 4),
    start: Tensor | None = None,
    lambda_s: float = 25.0,
    max_logit_step: float | None = None,
    momentum: float = 0.0,
    build_objective: Callable[[float, float], Objective] = paper_objective,
    min_steps: int = 1,
    max_steps: int = 8,
    early_stop: bool = True,
    show: Show = show_exactly,
    chunks: Chunks | None = None,
) -> Solution:
    if start is None:
        start = sets.sources.new_zeros(*sets.sources.shape[:2], *grid)
    solver = Solver(
        objective=build_objective(lambda_s, rule.roughness_weight),
        update_rule=rule,
        max_logit_step=max_logit_step,
        min_steps=min_steps,
        max_steps=max_steps,
        momentum=momentum,
        early_stop=early_stop,
    )
    return solve(solver, teacher, sets, start, show=show, chunks=chunks)


def masks_of(solution: Solution, sets: Sets) -> Tensor:
    return normalized_masks(solution.mask_logits, (sets.sources.shape[-2], sets.sources.shape[-1]))


def mixes_of(solution: Solution, sets: Sets) -> Tensor:
    return mix_images(sets.sources, masks_of(solution, sets))


def outcome_names(outcomes: Tensor) -> list[str]:
    return [Outcome(outcome).name.lower() for outcome in outcomes.tolist()]
