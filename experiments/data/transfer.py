"""To the device without waiting for it."""

import torch
from torch import Tensor

CPU = torch.device("cpu")


def send(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; a copy to a GPU is queued behind what the GPU is at, and nobody waits for it."""
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
