"""What contrastive representation distillation compares with: the last embedding of every training sample."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

_EPSILON = 1e-7


def noise_contrastive_loss(likeness: Float[Tensor, "b candidates"], num_samples: int) -> Float[Tensor, ""]:
    """Tell the positive from m negatives, uniform among the samples; summed over m, averaged over b.

    Args:
        likeness: Normalised likeness, > 0, of each anchor to its candidates; the positive is in column 0.
        num_samples: Training samples, 1 / Pn.
    """
    noise = (likeness.shape[1] - 1) / num_samples
    positive = (likeness[:, 0] / (likeness[:, 0] + noise + _EPSILON)).log()
    # log(noise / (likeness + noise + epsilon)), which rounds to nothing where the likeness is small
    negatives = -torch.log1p((likeness[:, 1:] + _EPSILON) / noise)
    return -(positive.sum() + negatives.sum()) / len(likeness)


class EmbeddingMemory(nn.Module):
    """What one network last made of every training sample: a moving average of embeddings, of length 1 once met.

    Args:
        num_samples: n, rows.
        size: d, width of the embeddings.
        temperature: Of the likeness, > 0.
        momentum: Weight of the old row when a sample is met, in [0, 1).
        generator: Draws the first rows, uniformly in +-1 / sqrt(d / 3).
    """

    rows: Float[Tensor, "n d"]
    normalizer: Float[Tensor, ""]

    def __init__(
        self, num_samples: int, size: int, *, temperature: float, momentum: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.momentum = momentum
        bound = (size / 3) ** -0.5
        self.register_buffer("rows", bound * (2 * torch.rand(num_samples, size, generator=generator) - 1))
        self.register_buffer("normalizer", torch.zeros(()))

    def likeness(
        self,
        anchors: Float[Tensor, "b d"],
        candidates: Int[Tensor, "b candidates"],
        mean_over_ranks: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "b candidates"]:
        """Return exp(anchor . row / temperature) / Z for every candidate; the first call fixes Z, its mean times n."""
        # One product with all rows: to gather b x m rows takes 20 times as long for CIFAR's 50 000
        products = (anchors @ self.rows.mT).gather(1, candidates)
        likeness = (products / self.temperature).exp()
        fresh = mean_over_ranks(likeness.detach().mean()) * len(self.rows)
        # Always computed, since to ask whether it is needed would make the host wait for the device
        self.normalizer = torch.where(self.normalizer > 0, self.normalizer, fresh)
        return likeness / self.normalizer

    @torch.no_grad()
    def update(self, indices: Int[Tensor, " b"], embeddings: Float[Tensor, "b d"]) -> None:
        """Move the rows of these samples; of a sample that is in the batch twice, the last one counts."""
        same = indices[:, None] == indices
        last = (same * torch.arange(len(indices), device=indices.device)).amax(dim=1)
        moved = torch.lerp(embeddings[last], self.rows[indices], self.momentum)
        self.rows[indices] = normalize(moved, dim=1)
