"""When a set is solved: the teacher's top classes of the mix are the classes of its sources."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def class_membership(source_classes: Int[Tensor, "b k"], num_classes: int) -> Bool[Tensor, "b n"]:
    """Mark the distinct classes Y of every set."""
    membership = torch.zeros(len(source_classes), num_classes, dtype=torch.bool, device=source_classes.device)
    return membership.scatter_(1, source_classes, True)


def extreme_logits(
    logits: Float[Tensor, "b n"], membership: Bool[Tensor, "b n"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Return the smallest logit inside Y and the largest outside it (-inf where Y holds every class)."""
    inside = logits.masked_fill(~membership, torch.inf).amin(dim=1)
    outside = logits.masked_fill(membership, -torch.inf).amax(dim=1)
    return inside, outside


def margin(logits: Float[Tensor, "b n"], membership: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Measure how far each set is from being solved: worst class inside Y minus best class outside.

    A set is solved where its margin is positive, which is to say that its top-|Y| predicted classes are Y, with ties
    counted as failures.

    Deviation: the paper compares the top-k classes also where two of the k sources share a class, so that such a set
    never ends; here Y are the distinct classes (Section 3.3, termination criteria).
    """
    inside, outside = extreme_logits(logits, membership)
    return inside - outside
