"""When a set is solved: the teacher's top classes of the mix are the classes of its sources."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot


def soft_targets(
    source_classes: Int[Tensor, "b k"], mix_weights: Float[Tensor, "b k"], num_classes: int
) -> Float[Tensor, "b n"]:
    """Put the weight of every source on its class (Eq. 2 of Dabouei et al., 2021); repeated classes add up."""
    return (one_hot(source_classes, num_classes) * mix_weights.unsqueeze(2)).sum(dim=1)


def class_membership(source_classes: Int[Tensor, "b k"], num_classes: int) -> Bool[Tensor, "b n"]:
    """Mark the distinct classes Y of every set."""
    membership = torch.zeros(len(source_classes), num_classes, dtype=torch.bool, device=source_classes.device)
    return membership.scatter_(1, source_classes, True)


def margin(logits: Float[Tensor, "b n"], membership: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Measure how far each set is from being solved: worst class inside Y minus best class outside.

    A set is solved where its margin is positive, which is to say that its top-|Y| predicted classes are Y, with ties
    counted as failures.

    Deviation: the paper compares the top-k classes also where two of the k sources share a class, so that such a set
    never ends; here Y are the distinct classes (Section 3.3, termination criteria).
    """
    inside = logits.masked_fill(~membership, torch.inf).amin(dim=1)
    outside = logits.masked_fill(membership, -torch.inf).amax(dim=1)  # -inf where Y holds every class
    return inside - outside
