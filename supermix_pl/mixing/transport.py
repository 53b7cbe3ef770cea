"""Where the regions of an image move, so that what is salient lies where its mask shows it."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def transport(costs: Float[Tensor, "b n n"]) -> Int[Tensor, "b n"]:
    """Give every region a place of its own by the masked assignment of Kim et al., 2020.

    Every region asks for its cheapest place; of those that ask for one place the cheapest gets it; the others may not
    ask for it again. This is repeated until every place is given away, and has no better swap in which both sides gain.
    The costs are those of every region in every place.
    """
    count, size = costs.shape[:2]
    rows = torch.arange(count * size, device=costs.device)
    prices, places = costs.flatten(0, 1).sort(dim=1, stable=True)
    asked = torch.zeros_like(rows)
    place, price = places[:, 0].clone(), prices[:, 0].clone()
    first_place = rows // size * size
    while True:
        cell = first_place + place
        least = torch.full_like(price, torch.inf).scatter_reduce(0, cell, price, "amin")
        asking = torch.where(price == least[cell], rows, len(rows))
        winner = torch.full_like(rows, len(rows)).scatter_reduce(0, cell, asking, "amin")
        losers = (winner[cell] != rows).nonzero()[:, 0]
        if len(losers) == 0:
            return place.view(count, size)
        asked[losers] += 1
        place[losers], price[losers] = places[losers, asked[losers]], prices[losers, asked[losers]]
