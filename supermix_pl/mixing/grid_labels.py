"""Labels of the cells of a grid that make a sum of costs of cells and of neighbours small."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_ROUNDS = 60


def least_labels(
    unary: Float[Tensor, "b l s t"], down: Float[Tensor, "b l l s-1 t"], right: Float[Tensor, "b l l s t-1"]
) -> Int[Tensor, "b s t"]:
    """Look for the labels of least cost: tree-reweighted message passing (Wainwright et al., 2005), batched.

    Rows and columns are the trees, each neighbourhood in half of them. All messages are sent at once and halved with
    the last ones, for 60 rounds; of the labels found on the way the best are kept, after each cell has once more taken
    its best label in turns. The optimum is not guaranteed.
    Costs are those of each label of a cell, and of it with each of the cell below and of the one to the right.
    """
    to_below, to_above, to_right, to_left = (torch.zeros_like(unary) for _ in range(4))
    best = unary.argmin(dim=1)
    least = labelling_cost(best, unary, down, right)
    sideways = right.mT  # so that it runs downwards
    for number in range(_ROUNDS):
        belief = unary + (to_below + to_above + to_right + to_left) / 2
        if number % 4 == 3 or number == _ROUNDS - 1:
            labels = _in_turns(belief.argmin(dim=1), unary, down, right)
            cost = labelling_cost(labels, unary, down, right)
            best = torch.where((cost < least)[:, None, None], labels, best)
            least = least.minimum(cost)
        to_below, to_above = _sent(belief, to_below, to_above, down)
        to_right, to_left = (each.mT for each in _sent(belief.mT, to_right.mT, to_left.mT, sideways))
    return best


def labelling_cost(
    labels: Int[Tensor, "b s t"],
    unary: Float[Tensor, "b l s t"],
    down: Float[Tensor, "b l l s-1 t"],
    right: Float[Tensor, "b l l s t-1"],
) -> Float[Tensor, " b"]:
    """Sum the costs of all cells and all neighbours."""
    cells = unary.gather(1, labels[:, None]).sum(dim=(1, 2, 3))
    below = down.flatten(1, 2).gather(1, (labels[:, :-1] * unary.shape[1] + labels[:, 1:])[:, None])
    beside = right.flatten(1, 2).gather(1, (labels[:, :, :-1] * unary.shape[1] + labels[:, :, 1:])[:, None])
    return cells + below.sum(dim=(1, 2, 3)) + beside.sum(dim=(1, 2, 3))


def _sent(
    belief: Float[Tensor, "b l s t"],
    forth: Float[Tensor, "b l s t"],
    back: Float[Tensor, "b l s t"],
    pairs: Float[Tensor, "b l l s-1 t"],
) -> tuple[Float[Tensor, "b l s t"], Float[Tensor, "b l s t"]]:
    """Send messages down and up the columns."""
    sent_forth = (2 * pairs + (belief - back)[:, :, None, :-1]).amin(dim=1)
    sent_back = (2 * pairs + (belief - forth)[:, None, :, 1:]).amin(dim=2)
    forth, back = forth.clone(), back.clone()
    forth[:, :, 1:] += (sent_forth - sent_forth.amin(dim=1, keepdim=True) - forth[:, :, 1:]) / 2
    back[:, :, :-1] += (sent_back - sent_back.amin(dim=1, keepdim=True) - back[:, :, :-1]) / 2
    return forth, back


def _in_turns(
    labels: Int[Tensor, "b s t"],
    unary: Float[Tensor, "b l s t"],
    down: Float[Tensor, "b l l s-1 t"],
    right: Float[Tensor, "b l l s t-1"],
) -> Int[Tensor, "b s t"]:
    """Give the cells their best label beside their neighbours', the black ones of a chessboard and then the white."""
    height, width = labels.shape[1:]
    board = (torch.arange(height)[:, None] + torch.arange(width)).to(labels.device) % 2
    for colour in (0, 1):
        cost = unary.clone()
        cost[:, :, 1:] += _beside(down, labels[:, :-1], 1)
        cost[:, :, :-1] += _beside(down, labels[:, 1:], 2)
        cost[..., 1:] += _beside(right, labels[:, :, :-1], 1)
        cost[..., :-1] += _beside(right, labels[:, :, 1:], 2)
        labels = torch.where(board == colour, cost.argmin(dim=1), labels)
    return labels


def _beside(pairs: Tensor, labels: Tensor, dim: int) -> Tensor:
    """Return the costs of all labels beside given ones."""
    shape = list(pairs.shape)
    shape[dim] = 1
    return pairs.gather(dim, labels[:, None, None].expand(shape)).squeeze(dim)
