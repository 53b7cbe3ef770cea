"""Whom a training sample is contrasted with: samples of other classes, drawn from a stream of chance of their own."""

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor


def stream_generator(device: torch.device | str, *stream: int) -> torch.Generator:
    """Return a generator on a device that depends on the numbers of a stream, each >= 0, alone."""
    seed = np.random.SeedSequence(stream).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(seed))


def draw_negatives(
    train_labels: Int[Tensor, " n"], anchors: Int[Tensor, " b"], count: int, generator: torch.Generator, *, repeat: bool
) -> Int[Tensor, "b {count}"]:
    """Draw samples of other classes than each anchor's, uniformly.

    Args:
        train_labels: Class of every training sample; two classes or more.
        anchors: Indices of the samples to contrast.
        count: Negatives of each, >= 1.
        generator: On the device of the labels.
        repeat: Whether one row may draw a sample twice; if not, every class must leave `count` samples.
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
