"""When teacher passes end."""

import torch
from torch import nn

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.bench.passes import pass_ends


def test_a_time_for_each_pass_also_of_a_folded_copy() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(400, 6))
    teacher, images = FrozenTeacher(module), torch.randn(24, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    with pass_ends(teacher, images) as ends:
        mix = SuperMix(max_steps=2)(teacher, images, seed=0)
    assert len(ends) == 2 + int(mix.num_steps.max())  # the natural images, a test before each step and one at the end
    assert ends == sorted(ends)
    teacher(images)
    assert len(ends) == 2 + int(mix.num_steps.max()), "after it nothing is noted"
