"""The critic of contrastive representation distillation (Tian et al., ICLR 2020): two embeddings, two memories."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from supermix_pl.arguments import check_at_least, check_positive, check_share

_EPSILON = 1e-7
_NEGATIVES, _STUDENT, _TEACHER = 0, 1, 2


class ContrastCritic(nn.Module):
    """Judges whether student and teacher saw the same image, by a linear embedding of the features of each.

    The student's embedding is compared with the teacher's memory, the teacher's with the student's. A step works on a
    few matrices of b x n floats: 13 MB each for CIFAR and b = 64, 1.3 GB for ImageNet and b = 256.

    Args:
        train_labels: Class of every training sample.
        student_features: Width of the student's features.
        teacher_features: Width of the teacher's.
        embedding_size: d, >= 1.
        num_negatives: m, >= 1. As soon as one class leaves fewer, they are drawn with repetition.
        temperature: Of the likeness, > 0.
        momentum: Weight of the old row when a sample is met, in [0, 1).
        seed: Of the memories' first rows and of the negatives, >= 0; each batch of each rank has a stream of its own.
    """

    train_labels: Int[Tensor, " n"]

    def __init__(
        self,
        train_labels: Int[np.ndarray, " n"],
        *,
        student_features: int,
        teacher_features: int,
        embedding_size: int = 128,
        num_negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_at_least("embedding_size", embedding_size, 1)
        check_at_least("num_negatives", num_negatives, 1)
        check_at_least("seed", seed, 0)
        check_positive("temperature", temperature)
        check_share("momentum", momentum)
        sizes = np.unique(train_labels, return_counts=True)[1]
        if len(sizes) < 2:
            raise ValueError(f"expected training samples of two classes or more, got {len(sizes)}: nothing to contrast")
        self.num_negatives = num_negatives
        self.repeat = num_negatives > len(train_labels) - int(sizes.max())
        self.seed = seed
        self.register_buffer("train_labels", torch.as_tensor(train_labels, dtype=torch.int64), persistent=False)
        self.student_embedding = nn.Linear(student_features, embedding_size)
        self.teacher_embedding = nn.Linear(teacher_features, embedding_size)
        self.student_memory, self.teacher_memory = (
            EmbeddingMemory(
                len(train_labels),
                embedding_size,
                temperature=temperature,
                momentum=momentum,
                generator=stream_generator("cpu", seed, memory),
            )
            for memory in (_STUDENT, _TEACHER)
        )

    def check_batch(self, indices: Int[Tensor, " b"], labels: Tensor) -> None:
        """Stop where a batch's indices and labels are not those of `train_labels`."""
        known = self.train_labels
        if indices.min() < 0 or indices.max() >= len(known) or not torch.equal(known[indices], labels):
            raise ValueError(
                f"expected indices below {len(known)} and the classes that train_labels has there, got indices up to "
                f"{int(indices.max())} and other classes; give the data module's train_labels, and unmixed batches"
            )

    def embed(
        self, student_features: Float[Tensor, "b c_student"], teacher_features: Float[Tensor, "b c_teacher"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        """Bring the features of both networks to embeddings of length 1."""
        student, teacher = self.student_embedding(student_features), self.teacher_embedding(teacher_features)
        return normalize(student, dim=1), normalize(teacher, dim=1)

    def forward(
        self,
        student: Float[Tensor, "b d"],
        teacher: Float[Tensor, "b d"],
        indices: Int[Tensor, " b"],
        *,
        stream: tuple[int, ...],
        mean_over_ranks: Callable[[Tensor], Tensor] = lambda value: value,
    ) -> Float[Tensor, ""]:
        """Return the loss of both directions."""
        generator = stream_generator(indices.device, self.seed, _NEGATIVES, *stream)
        negatives = draw_negatives(self.train_labels, indices, self.num_negatives, generator, repeat=self.repeat)
        candidates = torch.cat([indices[:, None], negatives], dim=1)
        losses = [
            noise_contrastive_loss(memory.likeness(anchors, candidates, mean_over_ranks), len(self.train_labels))
            for anchors, memory in ((student, self.teacher_memory), (teacher, self.student_memory))
        ]
        return losses[0] + losses[1]

    def update(self, indices: Int[Tensor, " b"], student: Float[Tensor, "b d"], teacher: Float[Tensor, "b d"]) -> None:
        """Take embeddings into the memories; call it after backward, which reads them as they were."""
        self.student_memory.update(indices, student)
        self.teacher_memory.update(indices, teacher)


def stream_generator(device: torch.device | str, *stream: int) -> torch.Generator:
    """Return a generator on a device that depends on the numbers of a stream, each >= 0, alone."""
    seed = np.random.SeedSequence(stream).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(seed))


def draw_negatives(
    train_labels: Int[Tensor, " n"], anchors: Int[Tensor, " b"], count: int, generator: torch.Generator, *, repeat: bool
) -> Int[Tensor, "b {count}"]:
    """Draw samples of other classes than each anchor's, uniformly.

    `repeat` says whether one row may draw a sample twice; if not, every class must leave `count` samples.
    """
    own, b, n = train_labels[anchors], len(anchors), len(train_labels)
    if not repeat:
        keys = torch.rand(b, n, generator=generator, device=own.device)
        keys.masked_fill_(train_labels == own[:, None], 2.0)
        return keys.topk(count, dim=1, largest=False, sorted=False).indices
    by_class = train_labels.argsort(stable=True)
    in_order = train_labels[by_class]
    start, end = torch.searchsorted(in_order, own), torch.searchsorted(in_order, own, right=True)
    draws = torch.randint(2**62, (b, count), generator=generator, device=own.device)
    others = (n - (end - start))[:, None]
    return by_class[(end[:, None] + draws % others) % n]


def noise_contrastive_loss(likeness: Float[Tensor, "b candidates"], num_samples: int) -> Float[Tensor, ""]:
    """Tell the positive, in column 0, from m negatives, uniform among the samples; summed over m, averaged over b.

    Likeness, > 0, of each anchor to its candidates is normalised. The number of training samples is 1 / Pn.
    """
    noise = (likeness.shape[1] - 1) / num_samples
    positive = (likeness[:, 0] / (likeness[:, 0] + noise + _EPSILON)).log()
    # log(noise / (likeness + noise + epsilon)), which rounds to nothing where the likeness is small
    negatives = -torch.log1p((likeness[:, 1:] + _EPSILON) / noise)
    return -(positive.sum() + negatives.sum()) / len(likeness)


class EmbeddingMemory(nn.Module):
    """What one network last made of every training sample: a moving average of embeddings, of length 1 once met.

    The generator draws the first rows, uniformly in +-1 / sqrt(d / 3); the settings are those of `ContrastCritic`.
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
