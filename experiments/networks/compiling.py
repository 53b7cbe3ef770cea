"""Networks compiled by torch."""

from torch import nn


def compile_in_place(network: nn.Module, *, on_gpu: bool) -> None:
    """Compile a network's calls, on a GPU into CUDA graphs; weights keep their names, and copies are not compiled."""
    network.compile(dynamic=False, mode="reduce-overhead" if on_gpu else None)
