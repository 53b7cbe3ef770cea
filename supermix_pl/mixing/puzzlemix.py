"""PuzzleMix: masks of most saliency on a grid, and regions that move to where their mask shows them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy

from supermix_pl.arguments import check_at_least, check_not_negative, check_positive
from supermix_pl.mixing.blind import Chosen, Composed, DirectMixer
from supermix_pl.mixing.grid_labels import least_labels
from supermix_pl.mixing.sampling import draw_weights
from supermix_pl.mixing.transport import transport
from supermix_pl.solver.rows import to_device
from supermix_pl.teacher.frozen import FrozenTeacher
from supermix_pl.teacher.outputs import image_gradient
from supermix_pl.teacher.passes import Chunks

_LEAST_SHARE = 1e-6
_FINEST = 16  # regions along a side, for which beta and gamma are
_SOURCES = 256  # whose costs of transport are held at once


@dataclass(frozen=True, kw_only=True)
class PuzzleMix(DirectMixer):
    r"""Mix every image with another under a mask that keeps what is salient in both, whose regions may move.

    Kim, Choo and Song, "Puzzle Mix: Exploiting Saliency and Local Statistics for Optimal Mixup", ICML 2020. On a grid
    of regions the mix is (1 - z) * P_0 x_0 + z * P_1 x_1, where z has values 0, 1/m, ..., 1 and P_0, P_1 are
    permutations of the regions. With the saliency s_k of the regions of the sources they minimise

        - sum_i (1 - z_i) (P_0 s_0)_i - sum_i z_i (P_1 s_1)_i + beta sum_ij (z_i - z_j)^2
        + gamma sum_ij phi_ij(z_i, z_j) - eta sum_i log p(z_i) + xi sum_k <P_k, C>

    The sums over ij are over neighbours; phi is how far the mixed pixels on both sides of a border are apart; p is the
    binomial distribution of m trials, whose chance lambda is drawn from Beta(alpha, alpha); C is how far a region
    moves. First z is found for regions that stay, then P_k for that z, by the paper's masked assignment; see
    `transport`. The weights of the mix are the means of 1 - z and z. k is 2.

    Saliency is the norm over the channels of the gradient of the cross-entropy, averaged over each region. It costs one
    forward and one backward pass of the teacher for each image that is a source.

    Deviation: the teacher gives the gradient, not the network in training. z is found by message passing, which solves
    the sets of a batch together, and not by graph cuts; see `least_labels`. We do not know how the paper scales its
    terms against each other, so that its settings may act more or less here than there: s_k has a mean of 1 over the
    regions; beta and gamma are those of a grid of 16, and less in proportion on a coarser one, where an outline crosses
    fewer borders; phi is the mean absolute difference of normalised pixels; C is the distance in sides of the image.
    The regions of a source stay where the assignment would cost more than that. What the paper adds to the training,
    adversarial noise and the gradients of clean images, is left out.

    Args:
        alpha: Of the Beta distribution of lambda, > 0.
        beta: Weight of differences of the mask between neighbours, >= 0.
        gamma: Weight of edges between neighbours in the mix, >= 0.
        eta: Weight of the prior of the mask, >= 0.
        xi: Weight of the way that regions move, >= 0; None if they stay.
        levels: m, >= 1: the mask has m + 1 values.
        grids: Regions along a side, >= 1, one of which is drawn for all mixes of a call. The largest grid that is no
            finer and divides both sides of the images is taken.

    The other arguments, and the errors, are those of `DirectMixer`.
    """

    needs_teacher = True

    alpha: float = 1.0
    beta: float = 1.2
    gamma: float = 0.5
    eta: float = 0.2
    xi: float | None = 0.8
    levels: int = 2
    grids: Sequence[int] = (2, 4, 8, 16)

    def __post_init__(self) -> None:
        check_positive("alpha", self.alpha)
        for name in ("beta", "gamma", "eta", "xi"):
            if getattr(self, name) is not None:
                check_not_negative(name, getattr(self, name))
        check_at_least("levels", self.levels, 1)
        object.__setattr__(self, "grids", tuple(self.grids))
        if not self.grids:
            raise ValueError("expected grids with at least one number of regions along a side, got none")
        for grid in self.grids:
            check_at_least("grids", grid, 1)
        super().__post_init__()

    def place(self, chosen: Chosen) -> Composed:
        """Look for the masks, and move the regions."""
        images, source_indices, teacher = chosen.images, chosen.source_indices, chosen.teacher
        assert teacher is not None
        shares = draw_weights(chosen.rng, len(source_indices), 2, self.alpha)[:, 1]
        shares = to_device(shares, images.device, images.dtype)
        height, width = images.shape[2:]
        wanted = self.grids[int(chosen.rng.integers(len(self.grids)))]
        grid = max(each for each in range(1, wanted + 1) if height % each == width % each == 0)
        used, places = source_indices.unique(return_inverse=True)
        if teacher.compile:  # passes of one shape
            used, places = torch.arange(len(images), device=images.device), source_indices
        chunks = Chunks(teacher, self.chunk_size)
        saliency = region_saliency(teacher, images[used], chosen.classes[used], grid, chunks)[places]
        sources = chosen.sources
        z = least_labels(*self.costs(sources, saliency, shares)).to(images) / self.levels
        masks = torch.stack([1 - z, z], dim=1)
        if self.xi is not None:
            sources = move(sources, self.moves(saliency, masks), grid)
        block = height // grid, width // grid
        masks = masks.repeat_interleave(block[0], dim=2).repeat_interleave(block[1], dim=3)
        return Composed.of(sources, masks, passes=len(used))

    def costs(
        self, sources: Float[Tensor, "b 2 c h w"], saliency: Float[Tensor, "b 2 g g"], shares: Float[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b l g g"], Float[Tensor, "b l l g-1 g"], Float[Tensor, "b l l g g-1"]]:
        """Return the costs of the values of the mask: of each region, and with those of the region below and beside."""
        z = torch.arange(self.levels + 1).to(saliency) / self.levels
        ways = torch.tensor([math.comb(self.levels, level) for level in range(self.levels + 1)]).to(z)
        chance = shares.clamp(_LEAST_SHARE, 1 - _LEAST_SHARE)[:, None]
        prior = ways.log() + self.levels * (z * chance.log() + (1 - z) * (1 - chance).log())
        kept = (1 - z)[:, None, None] * saliency[:, :1] + z[:, None, None] * saliency[:, 1:]
        unary = -kept - self.eta * prior[:, :, None, None]
        smooth = self.beta * (z[:, None] - z).square()[:, :, None, None]
        grid = saliency.shape[2]
        scale = grid / _FINEST
        pairs = [scale * (smooth + self.gamma * _edges(each, z, grid)) for each in (sources, sources.mT)]
        return unary, pairs[0], pairs[1].mT

    def moves(self, saliency: Float[Tensor, "b 2 g g"], masks: Float[Tensor, "b 2 g g"]) -> Int[Tensor, "b 2 g*g"]:
        """Return where each region of each source moves, as the index of a region."""
        assert self.xi is not None
        grid = saliency.shape[2]
        line = torch.arange(grid, device=masks.device).to(masks) / grid
        spots = torch.cartesian_prod(line, line)
        way = self.xi * (spots[:, None] - spots).norm(dim=2)
        parts = [each.flatten(0, 1).flatten(1).split(_SOURCES) for each in (saliency, masks)]
        costs = (way - keeps[:, :, None] * shows[:, None] for keeps, shows in zip(*parts, strict=True))
        return torch.cat([_worthwhile(each) for each in costs]).view(len(masks), 2, -1)


def region_saliency(
    teacher: FrozenTeacher, images: Float[Tensor, "m c h w"], classes: Int[Tensor, " m"], grid: int, chunks: Chunks
) -> Float[Tensor, "m g g"]:
    """Return the norm over the channels of the gradient of the cross-entropy, as regions' shares of their mean.

    Where there is no gradient, or none that is finite, every region has the same. Images whose class is not known, -1,
    are no sources; a compiled teacher looks at them because its passes have one shape.
    """
    known = classes.clamp_min(0)

    def look(rows: slice) -> Float[Tensor, "r c h w"]:
        with torch.enable_grad():
            shown = images[rows].detach().clone().requires_grad_()
            return image_gradient(cross_entropy(teacher(shown), known[rows], reduction="sum"), shown)

    gradient = torch.cat(chunks.run(look, len(images)))
    largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)  # of a teacher that is sure, gradients are tiny
    seen = (largest > 0) & largest.isfinite()
    scaled = torch.where(seen, gradient / largest, torch.ones_like(gradient))
    regions = adaptive_avg_pool2d(scaled.norm(dim=1, keepdim=True), grid)[:, 0]
    return regions / regions.mean(dim=(1, 2), keepdim=True)


def _worthwhile(costs: Float[Tensor, "s n n"]) -> Int[Tensor, "s n"]:
    """Return the places of the assignment, where it costs less than to stay."""
    places, stay = transport(costs), torch.arange(costs.shape[1], device=costs.device)
    total = costs.gather(2, places[..., None]).sum(dim=(1, 2))
    return torch.where((total < costs.diagonal(dim1=1, dim2=2).sum(dim=1))[:, None], places, stay)


def move(sources: Float[Tensor, "b k c h w"], places: Int[Tensor, "b k n"], grid: int) -> Float[Tensor, "b k c h w"]:
    """Move the regions of images to other places of the grid."""
    b, k, c, h, w = sources.shape
    blocks = (
        sources.view(b, k, c, grid, h // grid, grid, w // grid).permute(0, 1, 3, 5, 2, 4, 6).reshape(b, k, grid**2, -1)
    )
    moved = torch.zeros_like(blocks).scatter(2, places[..., None].expand_as(blocks), blocks)
    return moved.view(b, k, grid, grid, c, h // grid, w // grid).permute(0, 1, 4, 2, 5, 3, 6).reshape(sources.shape)


def _edges(sources: Float[Tensor, "b 2 c h w"], z: Float[Tensor, " l"], grid: int) -> Float[Tensor, "b l l _ _"]:
    """Return how far the pixels above and below each border are apart, for each value of the mask on both sides."""
    block = sources.shape[3] // grid
    above, below = sources[..., block - 1 : -1 : block, :], sources[..., block::block, :]
    weights = torch.stack([1 - z, z], dim=1)
    above, below = (torch.einsum("lk,bkcgw->blcgw", weights, each) for each in (above, below))
    apart = (above[:, :, None] - below[:, None]).abs().mean(dim=3)
    return apart.unflatten(4, (grid, -1)).mean(dim=5)
