"""The picture of mixes, and what pixels it shows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from supermix_pl import CutMix, FrozenTeacher, MixUp
from supermix_pl.experiments.figures.mixes import draw_mixes
from supermix_pl.pictures.tensors import denormalize


def test_denormalize_undoes_normalisation_and_clamps() -> None:
    images = torch.rand(2, 3, 4, 4)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    normalised = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(denormalize(normalised, mean, std), images)
    assert denormalize(images + 2).max() == 1


def test_the_picture_of_several_methods(tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = FrozenTeacher(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 3)))
    images = torch.rand(4, 3, 8, 8)
    mixes = {"MixUp": MixUp()(teacher, images, seed=0), "CutMix": CutMix()(teacher, images, seed=0)}
    path = draw_mixes(images, mixes, ["a", "b", "c"], tmp_path / "new" / "mixes.png", sets=[0, 2])
    with Image.open(path) as picture:
        assert picture.width > 700
        assert len(np.unique(np.asarray(picture.convert("L")))) > 50  # not blank
    other = MixUp(pairing="random")(teacher, images, seed=3)
    with pytest.raises(ValueError, match="same pairs"):
        draw_mixes(images, {**mixes, "other": other}, ["a", "b", "c"], tmp_path / "x.png", sets=[0])
    blind = MixUp(num_classes=3)(None, images, torch.tensor([0, 1, 2, 0]), seed=0)
    with pytest.raises(ValueError, match="labelled by a teacher"):
        draw_mixes(images, {"blind": blind}, ["a", "b", "c"], tmp_path / "x.png", sets=[0])
