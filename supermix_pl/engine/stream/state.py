"""What a stream keeps from step to step of a run."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from supermix_pl.engine.stream.images import ImageStore
from supermix_pl.engine.stream.ring import part_of
from supermix_pl.engine.stream.solving import Solving
from supermix_pl.engine.stream.step import Step
from supermix_pl.mixing import DirectMixer, SuperMix
from supermix_pl.mixing.checks import check_images
from supermix_pl.teacher.frozen import FrozenTeacher

_OF_RANKS = ("due_visits", "due_images", "batch_size")  # they differ between ranks whose batches do
ACCOUNTS = ("step", "reuse", *_OF_RANKS)
"""What a checkpoint has of a `StreamState`; under several ranks that of rank 0."""
SHOWN_AT_MOST = 4
"""Sets of a picture."""


@dataclass(kw_only=True)
class StreamState:
    """The accounts of a stream, and its stores once there are some."""

    step: int = 0  # batches that were mixed so far
    reuse: float | None = None  # views of a set, where a budget chose it
    due_visits: float = 0.0  # visits that are due, less than a turn
    due_images: float = 0.0  # images that are due to be kept, less than one
    batch_size: int = 0  # mixes of a step that the plan is for; 0 while there is none
    # Of the first batches of a resumed run; None once they were compared with `batch_size`
    batch_sizes: list[int] | None = None
    saved: dict[str, Any] | None = None  # the accounts of a checkpoint that no batch has been compared with yet
    loaded: dict[str, Tensor] | None = None  # the tensors beside it, likewise
    images: ImageStore | None = None  # where sources come from
    sizes: list[int] = field(default_factory=list)  # what must be alike in a run that goes on with the stores
    solving: Solving | None = None  # slots and store of a mixer that solves
    places: Int[Tensor, "b k"] | None = None  # where the sources of the last mixes are
    pictured: Float[Tensor, "m k c h w"] | None = None  # sources of the last of them, for a picture
    forwards: int = 0  # images of the last batch that the teacher passed to know their classes
    left_out: int = 0  # images of the last batch that were no source, for want of a class
    metrics: dict[str, float] = field(default_factory=dict)  # of the last batch
    told_uses: bool = False  # whether it was said that sets are used otherwise than was planned

    def open(self, capacity: int, device: torch.device, sizes: list[int]) -> dict[str, Tensor] | None:
        """Open the store of images with what was loaded, if that is of these sizes, and return that."""
        loaded, self.loaded = self.loaded, None
        if loaded is not None and loaded["sizes"].tolist() != sizes:
            loaded = None
            rank_zero_info(
                "Stream engine: the images, the classes or the batches are of another size than those that were saved "
                "beside the checkpoint, so its store fills anew."
            )
        self.images = ImageStore.from_tensors(loaded, capacity, device)
        return loaded

    @classmethod
    def resumed(cls, saved: dict[str, Any], loaded: dict[str, Tensor] | None) -> "StreamState":
        """Go on with the accounts of a checkpoint, and with this rank's own among the tensors beside it."""
        own: dict[str, Any] = {name: value.item() for name, value in part_of(loaded or {}, "accounts").items()}
        return cls(**{name: saved[name] for name in ACCOUNTS} | own, batch_sizes=[], loaded=loaded)

    def tensors(self) -> dict[str, Tensor]:
        """Return this rank's accounts, images, slots and store; what was loaded, while it waits for the first batch."""
        if self.images is None:
            return self.loaded or {}
        held = {f"images/{name}": value for name, value in self.images.ring.tensors().items()}
        held |= {f"accounts/{name}": torch.from_numpy(np.array(getattr(self, name))) for name in _OF_RANKS}
        return held | {"sizes": torch.tensor(self.sizes)} | ({} if self.solving is None else self.solving.tensors())

    def stored(self) -> ImageStore:
        """Return the open store of images."""
        assert self.images is not None
        return self.images

    @property
    def is_empty(self) -> bool:
        """Whether there are no images to draw from yet."""
        return len(self.stored().ring) == 0

    def note_sources(self, places: Int[Tensor, "b k"]) -> None:
        """Note where the sources of the mixes are, and copy some for a picture, before a batch comes in their place."""
        self.places, self.pictured = places, self.stored().at(places[-SHOWN_AT_MOST:])

    def keep(
        self, images: Float[Tensor, "r c h w"], classes: Int[Tensor, " r"], labels: Int[Tensor, " b"] | None
    ) -> None:
        """Store images of known class. All are, where labels are given, and the host need not wait to know."""
        if labels is None and not bool((classes >= 0).all()):
            known = classes >= 0
            images, classes = images[known], classes[known]
            self.left_out += len(known) - len(images)
        if len(images):
            self.stored().add(images, classes)

    def classify(
        self,
        mixer: SuperMix | DirectMixer,
        teacher: FrozenTeacher | None,
        images: Float[Tensor, "r c h w"],
        labels: Int[Tensor, " r"] | None,
        logits: Float[Tensor, "r n"] | None,
    ) -> None:
        """Store images; the teacher sees those whose classes are to be known."""
        natural, classes = mixer.classes_of(teacher, images, labels, logits)
        self.forwards += natural.forwards
        self.keep(images, classes, labels)

    def fill(
        self,
        mixer: SuperMix | DirectMixer,
        teacher: FrozenTeacher | None,
        step: Step,
        sources: Float[Tensor, "n c h w"] | None,
        logits: Float[Tensor, "b n"] | None,
    ) -> None:
        """Store the sources that are given, as many at once as a batch has, or else the first batch."""
        if sources is None:
            self.classify(mixer, teacher, step.pixels, step.labels, logits)
            return
        for part in sources.split(len(step.pixels)):
            self.classify(mixer, teacher, check_images(part.to(step.pixels)), None, None)
