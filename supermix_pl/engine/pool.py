"""The pool of finished mixes on the device, from which training draws: oldest first out."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from supermix_pl.engine.quantization import dequantize, quantize
from supermix_pl.mixing import MixedBatch
from supermix_pl.mixing.assembly import like_batch
from supermix_pl.mixing.targets import soft_targets
from supermix_pl.solver.masks import upsample

PoolDtype = Literal["uint8", "batch"]


class Pool:
    """Mixes with their labels, bounded in bytes.

    A mix is kept with the teacher's logits, its classes, weights and outcome, not with what only its own batch could
    make sense of.

    Args:
        max_bytes: What the pool may take at most, >= 1; it is allocated when the first mixes come.
        dtype: "uint8" rounds the images to 256 levels; "batch" keeps them as they are.
        mask_grid: Height and width of the grid on which the masks are kept; None keeps none.

    Raises:
        ValueError: With the first mixes, if not one of them fits.
    """

    def __init__(self, max_bytes: int, dtype: PoolDtype, mask_grid: tuple[int, int] | None) -> None:
        self.max_bytes = max_bytes
        self.dtype: PoolDtype = dtype
        self.mask_grid = mask_grid
        self.capacity = 0
        self.added = 0
        self.drawn = 0
        self._tensors: dict[str, Tensor] = {}
        self._born = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        """Count the mixes that are there."""
        return min(self.added, self.capacity)

    @property
    def num_bytes(self) -> int:
        """What the pool takes."""
        return sum(tensor.nbytes for tensor in self._tensors.values())

    def like(self, capacity: int) -> "Pool":
        """Make an empty pool of the kind for so many mixes; this one must have some."""
        return Pool(capacity * (self.num_bytes // self.capacity), self.dtype, self.mask_grid)

    def add(self, mix: MixedBatch, step: int) -> None:
        """Put mixes in, in the place of the oldest ones where the pool is full.

        Args:
            mix: Finished mixes that a teacher has seen.
            step: Now, in training steps.
        """
        rows = self._rows_of(mix)
        if not self._tensors:
            self._allocate(rows)
        rows = {name: value[-self.capacity :] for name, value in rows.items()}
        count = len(rows["outcomes"])
        places = (self.added + np.arange(count)) % self.capacity
        self._born[places] = step
        indices = torch.from_numpy(places).to(rows["outcomes"].device)
        for name, value in rows.items():
            self._tensors[name][indices] = value
        self.added += count

    def draw(
        self, rng: np.random.Generator, images: Float[Tensor, "b c h w"]
    ) -> tuple[MixedBatch, Int[np.ndarray, " b"]]:
        """Draw as many mixes as a batch has images, none twice if there are enough.

        Args:
            rng: Where chance comes from.
            images: The batch, for dtype and memory format.

        Returns:
            The mixes, and the training steps in which they came.
        """
        places = rng.choice(len(self), size=len(images), replace=len(images) > len(self))
        indices = torch.from_numpy(places).to(images.device)
        rows = {name: value[indices] for name, value in self._tensors.items()}
        self.drawn += len(places)
        mixes = rows["images"]
        if self.dtype == "uint8":
            mixes = dequantize(mixes, rows["lowest"], rows["step"])
        unknown = torch.full_like(rows["source_classes"], -1)
        weights, logits = rows["mix_weights"], rows["teacher_logits"]
        mix = MixedBatch(
            images=like_batch(mixes, images),
            masks=self._masks(rows, images),
            soft_targets=soft_targets(rows["source_classes"], weights, logits.shape[1]),
            teacher_logits=logits,
            source_indices=unknown,
            source_classes=rows["source_classes"],
            mix_weights=weights,
            outcomes=rows["outcomes"],
            num_steps=rows["num_steps"],
            natural_logits=None,
            teacher_forwards=0,
            teacher_backwards=0,
        )
        return mix, self._born[places]

    def tensors(self) -> dict[str, Tensor]:
        """Give what is there, for `load_tensors`; views of it, as a pool may fill much of the device."""
        held = {name: value[: len(self)] for name, value in self._tensors.items()}
        held["born"] = torch.from_numpy(self._born[: len(self)].copy())
        held["counts"] = torch.tensor([self.capacity, self.added, self.drawn])
        return held

    def load_tensors(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        """Take up what `tensors` gave."""
        tensors = dict(tensors)
        self.capacity, self.added, self.drawn = tensors.pop("counts").tolist()
        born = tensors.pop("born").numpy()
        self._born = np.zeros(self.capacity, dtype=np.int64)
        self._born[: len(born)] = born
        self.mask_grid = (masks.shape[2], masks.shape[3]) if (masks := tensors.get("masks")) is not None else None
        self.dtype = "uint8" if "lowest" in tensors else "batch"
        self._tensors = {}
        for name, value in tensors.items():
            self._tensors[name] = torch.zeros(self.capacity, *value.shape[1:], dtype=value.dtype, device=device)
            self._tensors[name][: len(value)] = value.to(device)

    def _rows_of(self, mix: MixedBatch) -> dict[str, Tensor]:
        assert mix.teacher_logits is not None
        rows = {
            "teacher_logits": mix.teacher_logits,
            "source_classes": mix.source_classes,
            "mix_weights": mix.mix_weights,
            "outcomes": mix.outcomes,
            "num_steps": mix.num_steps,
        }
        if self.mask_grid is not None:
            rows["masks"] = adaptive_avg_pool2d(mix.masks, self.mask_grid).half()
        if self.dtype == "batch":
            return rows | {"images": mix.images}
        levels, lowest, step = quantize(mix.images.float())
        return rows | {"images": levels, "lowest": lowest, "step": step}

    def _masks(self, rows: dict[str, Tensor], images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k _ _"]:
        if self.mask_grid is None:
            return rows["mix_weights"].new_zeros(*rows["mix_weights"].shape, 0, 0)
        return upsample(rows["masks"].float(), (images.shape[2], images.shape[3]))

    def _allocate(self, rows: dict[str, Tensor]) -> None:
        mix_bytes = sum(value[0].nbytes for value in rows.values())
        self.capacity = self.max_bytes // mix_bytes
        if self.capacity < 1:
            raise ValueError(
                f"expected a pool that holds at least one mix of {mix_bytes} bytes, got pool_bytes={self.max_bytes}; "
                "raise it"
            )
        self._born = np.zeros(self.capacity, dtype=np.int64)
        for name, value in rows.items():
            self._tensors[name] = value.new_zeros(self.capacity, *value.shape[1:])
