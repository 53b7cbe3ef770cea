"""The choices of conf/mixes: where the rows beside the natural ones come from if they are not mixed on the fly."""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from supermix_pl import FrozenTeacher
from supermix_pl.experiments.data import ImageDataModule, unlabelled_images
from supermix_pl.experiments.mixes.description import Plan, describe, describe_mixer, difference
from supermix_pl.experiments.mixes.generation import generate
from supermix_pl.experiments.mixes.misplaced import MisplacedMixes
from supermix_pl.experiments.mixes.shards import FixedMixes
from supermix_pl.mixing import Mixer
from supermix_pl.mixing.views import Transform

_log = logging.getLogger(__name__)
Images = FixedMixes | MisplacedMixes | UInt8[np.ndarray, "m 3 height width"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the rows have to go with."""

    data: ImageDataModule  # the natural images, set up
    mixer: Mixer | None  # that is chosen
    view: Transform | None  # what the student sees the rows under
    cache_dir: Path  # where what is made or decoded is kept


@dataclass(frozen=True, kw_only=True)
class Fixed(Plan):
    """Mixes that the mixer makes before the training: those that are there already are not made again."""

    setting: Setting  # what they are made of; has a mixer
    folder: str | None = None  # where they are kept; None for one in the cache, named by all that decides on them
    misplaced: bool = False  # whether their masks are laid on other training images, drawn at random: a control

    def open(self, teacher: FrozenTeacher) -> FixedMixes | MisplacedMixes:
        """Make what is missing, and open all."""
        mixes = FixedMixes(self.make(teacher))
        return _misplaced(mixes, self.setting.data) if self.misplaced else mixes

    def make(self, teacher: FrozenTeacher) -> Path:
        """Make what is missing, under the view that the training shows where the mixer asks for it; return the folder.

        Raises:
            ValueError: If the folder holds mixes of another origin, or the views have no repr of their settings.
        """
        of, mixer, folder = self.setting, self.setting.mixer, self.folder
        assert mixer is not None  # the choices are checked
        if folder is None:
            about = json.dumps(describe(of.data, teacher, mixer, self, view=of.view))
            folder = of.cache_dir / "mixes" / hashlib.sha256(about.encode()).hexdigest()[:16]
        _log.info("%d mixes in %s", self.size, folder)
        generate(folder, of.data, teacher, mixer, self, view=of.view)
        return Path(folder)


class Folder:
    """Mixes that were made earlier, by `supermix-generate`; misplaced is as in `Fixed`.

    Raises:
        ValueError: If they are of other data, or of another mixer than the one that is chosen, or not whole.
    """

    def __init__(self, setting: Setting, *, folder: str, misplaced: bool = False) -> None:
        mixes = FixedMixes(folder)
        _check_fit(mixes, setting)
        self._mixes = _misplaced(mixes, setting.data) if misplaced else mixes

    def open(self, teacher: FrozenTeacher) -> FixedMixes | MisplacedMixes:
        """Return the mixes."""
        return self._mixes


class External:
    """Images without labels in place of mixes, as `unlabelled_images` opens them."""

    def __init__(self, setting: Setting, *, folder: str) -> None:
        self._images = unlabelled_images(folder, size=setting.data.image_size, cache_dir=setting.cache_dir)

    def open(self, teacher: FrozenTeacher | None = None) -> UInt8[np.ndarray, "m 3 height width"]:
        """Return their pixels, 0 to 255."""
        return self._images


Beside = Fixed | Folder | External


def _misplaced(mixes: FixedMixes, data: ImageDataModule) -> MisplacedMixes:
    return MisplacedMixes(mixes, data, data.seed)


def _check_fit(mixes: FixedMixes, setting: Setting) -> None:
    """Refuse mixes that were made for other data, or by another mixer than the one that is chosen."""
    data = setting.data
    for name, wanted in {"image_size": list(data.image_size), "num_classes": data.num_classes}.items():
        if mixes.about[name] != wanted:
            raise ValueError(
                f"expected mixes with {name} {wanted}, as the data have, got {mixes.about[name]} in {mixes.folder}: "
                "make others with supermix-generate, or give other data"
            )
    count, known = mixes.about["num_sources"], len(data.training_samples()[1])
    if count != known:
        _log.warning(
            "the mixes in %s were made of %d training images, and the data have %d: they may show images that are not "
            "among these, such as held-out ones",
            *(mixes.folder, count, known),
        )
    if setting.mixer is None:
        return
    for name, wanted in describe_mixer(setting.mixer, setting.view, data).items():
        if mixes.about[name] != wanted:
            of = "the mixer" if name == "mixer" else "the views"
            raise ValueError(
                f"expected {of} that made the mixes in {mixes.folder}, got others "
                f"({difference(mixes.about[name], wanted)}): choose what made them, or mixer=none"
            )
