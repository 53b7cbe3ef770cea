"""The teachers of Table 4's benchmark, by name, with the paper's settings for their data sets."""

from dataclasses import dataclass
from pathlib import Path

from supermix_pl import SuperMix
from supermix_pl.experiments import networks
from supermix_pl.experiments.bench import published
from supermix_pl.experiments.bench.subject import Subject
from supermix_pl.experiments.data.cifar import Cifar100
from supermix_pl.transforms import RandomCropFlip, RandomResizedCropFlip, View

LITE, SHAPES = "efficientnet_lite0", "shapes"
PRETRAINED, UNTRAINED = "pretrained", "untrained"
Statistics = tuple[float, float, float]
# What EfficientNet-Lite was trained with: (x - 127) / 128; it loses 11 points of accuracy under ImageNet's statistics.
_LITE_MEAN, _LITE_STD = (127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The paper's settings for a data set (Section 4).

    Args:
        name: In the results.
        mean: Per channel, what its teachers' inputs are normalised with.
        std: Likewise.
        sigma: Of the smoothing, in cells of the mask grid.
        mask_size: Side of the mask grid.
        crop: Side in pixels of the part of the images that the teachers see; None for all.
        prefix: Of its networks' names in `experiments.networks`.
        view: What a student sees mixes under.
    """

    name: str
    mean: Statistics
    std: Statistics
    sigma: float
    mask_size: int
    crop: int | None
    prefix: str
    view: View


DATASETS = {
    "cifar": Dataset(
        name="cifar100",
        mean=Cifar100.statistics[0],
        std=Cifar100.statistics[1],
        sigma=1.0,
        mask_size=8,
        crop=None,
        prefix="",
        view=RandomCropFlip(),
    ),
    "imagenet": Dataset(
        name="imagenet",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        sigma=2.0,
        mask_size=16,
        crop=224,
        prefix="imagenet_",
        view=RandomResizedCropFlip(),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A teacher with its data, the solver's settings for them, and what a student sees mixes under."""

    dataset: str
    network: str
    subject: Subject
    mixer: SuperMix
    view: View


def case(spec: str, *, data: str, num_images: int, k: int) -> Case:
    """Find what DATASET:WEIGHTS:NETWORK names.

    Args:
        spec: See `--help`.
        data: Folder of Parquet shards, or the embedded set.
        num_images: How many images, from the first of the test images.
        k: Sources in a set.

    Raises:
        ValueError: If there is no such teacher.
    """
    start, _, rest = spec.partition(":")
    weights, _, network = rest.rpartition(":")
    if start not in DATASETS or not weights:
        raise ValueError(f"expected --teacher {'|'.join(DATASETS)}:WEIGHTS:NETWORK, got {spec!r}")
    dataset, shapes = DATASETS[start], data == SHAPES
    mean, std = dataset.mean, dataset.std
    name, checkpoint = dataset.prefix + network, None
    if weights == PRETRAINED:
        if start != "imagenet" or not hasattr(published, network):
            raise ValueError(f"expected a file of weights for {start}'s {network}, got {weights!r}: none are published")
        name = f"{published.__name__}:{network}"
        if network == LITE:
            mean, std = _LITE_MEAN, _LITE_STD
    elif name not in networks.__all__:
        raise ValueError(f"expected a network of experiments.networks, got {name!r}")
    elif weights != UNTRAINED:
        checkpoint = weights
        if not Path(checkpoint).is_file():
            raise ValueError(f"expected the teacher's weights at {checkpoint}, found no such file")
    elif not shapes:
        raise ValueError(f"expected trained weights for real data, got {spec!r}; {UNTRAINED} is for --data {SHAPES}")
    subject = Subject(
        network=name,
        checkpoint=checkpoint,
        data=data,
        split="test",
        num_images=num_images,
        mean=mean,
        std=std,
        crop=None if shapes else dataset.crop,
    )
    mixer = SuperMix(
        k=k,
        sigma=dataset.sigma,
        mask_size=dataset.mask_size,
        pairing="distinct",
        classes="labels" if shapes else "teacher",
    )
    return Case(dataset=dataset.name, network=network, subject=subject, mixer=mixer, view=dataset.view)
