"""What figures and benchmarks are of: a teacher and images."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.transforms import RandomCropFlip, RandomResizedCropFlip, View

_LARGEST_SMALL_SIDE = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A teacher and images."""

    teacher: FrozenTeacher  # supervises and labels the mixes
    images: Float[Tensor, "b c h w"]  # normalised, on the teacher's device
    labels: Int[Tensor, " b"]
    class_names: Sequence[str]  # in the order of the labels
    mean: Sequence[float] | None  # per channel, what the images are normalised with, on the scale [0, 1]
    std: Sequence[float] | None  # likewise
    supermix: SuperMix  # the paper's solver with the settings for these data
    seed: int  # of the choice of images and of the mixes
    data: str
    network: str  # the teacher's
    note: str = ""  # on the data, for titles

    @property
    def title(self) -> str:
        """Names of data and teacher."""
        return f"{self.data}{f' ({self.note})' * bool(self.note)}, teacher {self.network}"

    @property
    def view(self) -> View:
        """What a student would see mixes of these images under: resized crops of large ones."""
        return RandomCropFlip() if max(self.images.shape[2:]) <= _LARGEST_SMALL_SIDE else RandomResizedCropFlip()

    def batches(self, size: int) -> list[tuple[Float[Tensor, "_ c h w"], Int[Tensor, " _"]]]:
        """Split images and labels into batches, the last of which may be smaller."""
        return list(zip(self.images.split(size), self.labels.split(size), strict=True))
