"""SuperMix.fast: its settings, how they are changed, and what they gain."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from supermix_pl import MixedBatch, SuperMix
from supermix_pl.experiments import resolvers
from tests.problems import SmoothTeacher, natural_images

TEACHER = SmoothTeacher()


def softness(mix: MixedBatch) -> torch.Tensor:
    return (mix.masks * (1 - mix.masks)).mean(dim=(1, 2, 3))


def test_is_a_mixer_with_other_settings() -> None:
    assert SuperMix.fast() == SuperMix(
        init="contrast",
        objective="criterion",
        lambda_s=0.0,
        max_logit_step=3.0,
        momentum=0.5,
        min_steps=0,
        sigma=0.5,
    )


@pytest.mark.parametrize(("mask_size", "sigma"), [(16, 1.0), ((4, 8), 0.5), (4, 0.25)])
def test_sigma_follows_the_mask(mask_size: int | tuple[int, int], sigma: float) -> None:
    assert SuperMix.fast(mask_size=mask_size).sigma == sigma
    assert SuperMix.fast(mask_size=mask_size, sigma=2.0).sigma == 2.0


def test_every_argument_can_be_changed() -> None:
    mixer = SuperMix.fast(k=3, lambda_s=25.0, init="zeros", on_unsolved="source", min_steps=1)
    assert (mixer.k, mixer.lambda_s, mixer.init, mixer.on_unsolved, mixer.min_steps) == (3, 25.0, "zeros", "source", 1)
    assert mixer.momentum == 0.5
    with pytest.raises(TypeError, match="speed"):
        SuperMix.fast(speed=2)
    with pytest.raises(ValueError, match="expected alpha > 0, got -1"):
        SuperMix.fast(alpha=-1)


@pytest.mark.parametrize("k", [2, 3])
def test_solves_more_sets_in_fewer_passes_with_sharp_masks(k: int) -> None:
    images = natural_images(64)
    paper, fast = (
        mixer(TEACHER, images, seed=0) for mixer in (SuperMix(k=k, mask_size=4), SuperMix.fast(k=k, mask_size=4))
    )
    assert fast.solved.sum() > paper.solved.sum()
    assert fast.teacher_forwards < paper.teacher_forwards / 2
    assert softness(fast)[fast.solved].mean() < 0.6 * (k - 1) / k**2


def test_heavier_sources_get_more_of_the_mix() -> None:
    images = natural_images(64)
    mix = SuperMix.fast(mask_size=4)(TEACHER, images, seed=0)
    area = mix.masks.mean(dim=(2, 3))[:, 0]
    together = torch.corrcoef(torch.stack([area, mix.mix_weights[:, 0]]))[0, 1]
    assert together > 0.3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_is_deterministic_and_finite(dtype: torch.dtype) -> None:
    images, teacher = natural_images(16).to(dtype), SmoothTeacher().float()
    first, second = (SuperMix.fast(mask_size=4, max_steps=8)(teacher, images, seed=1) for _ in range(2))
    assert first.images.equal(second.images)
    assert first.masks.isfinite().all()
    assert first.images.dtype == dtype


def test_the_config_makes_it() -> None:
    resolvers.register()
    paths = ["paths.root_dir=root", "paths.output_dir=output"]
    with initialize_config_module("supermix_pl.conf", version_base="1.3"):
        cifar = compose("train", [*paths, "mixer=supermix_fast", "mixer.k=3"])
        imagenet = compose("train", [*paths, "mixer=supermix_fast", "pair.mask_size=16", "mixer.max_steps=9"])
        assert instantiate(cifar.mixer) == SuperMix.fast(k=3)
        assert instantiate(imagenet.mixer) == SuperMix.fast(mask_size=16, max_steps=9, sigma=1.0)


@pytest.mark.slow
@pytest.mark.parametrize(("k", "solved", "forwards"), [(2, 0.98, 9), (3, 0.95, 16)])
def test_on_real_images(shared: Path, k: int, solved: float, forwards: float) -> None:
    from supermix_pl.experiments.bench.table4_cases import case

    teacher = shared / "teachers" / "wrn_16_2_cifar100.pth"
    chosen = case(f"cifar:{teacher}:wrn_16_2", data=str(shared / "data" / "cifar100"), num_images=128, k=k)
    network, images = chosen.subject.open(torch.device("cpu"))
    mix = SuperMix.fast(k=k, pairing="distinct")(network, images, seed=0)
    assert mix.solved.float().mean() >= solved - 0.02
    assert mix.teacher_forwards <= forwards * len(images)
    assert softness(mix)[mix.solved].mean() <= 0.12
