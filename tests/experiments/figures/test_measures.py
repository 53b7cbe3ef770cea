"""What the mixes of a method are worth."""

import math

import pytest
import torch

from supermix_pl import CutMix, MixUp
from supermix_pl.experiments.figures.held import held_methods, hold
from supermix_pl.experiments.figures.logit_map import class_spread
from supermix_pl.experiments.figures.measures import boxes_kept, deviation_of_means, measure
from supermix_pl.experiments.shared.mixers import SOLVERS
from supermix_pl.solver.saliency import input_saliency
from tests.experiments.figures.figures_toys import subject


def test_averages_keep_half_of_everything() -> None:
    toys = subject()
    assert toys.boxes is not None
    (held,) = hold(MixUp(), toys, [1], toys.view, 3)
    _, saliency = input_saliency(toys.teacher, toys.images, None)
    found = measure(held, saliency, toys.boxes)
    assert math.isclose(found.saliency_kept, 0.5, rel_tol=1e-5)
    assert found.boxes_kept is not None
    assert math.isclose(found.boxes_kept, 0.5, rel_tol=1e-5)
    assert (found.forwards, found.backwards) == (1, 0)  # the image itself
    assert found.softness == pytest.approx(float((held.snapshot.mix.masks * (1 - held.snapshot.mix.masks)).mean()))
    assert measure(held, saliency, None).boxes_kept is None


def test_boxes_are_counted_pixel_by_pixel() -> None:
    toys = subject()
    boxes = torch.tensor([[1, 2, 4, 7], [0, 0, 8, 8], [5, 5, 6, 8]]).repeat(4, 1)
    mix = CutMix()(toys.teacher, toys.images, seed=0)
    for row, kept in enumerate(boxes_kept(mix, boxes).tolist()):
        shares = []
        for mask, source in zip(mix.masks[row], mix.source_indices[row].tolist(), strict=True):
            x0, y0, x1, y1 = boxes[source].tolist()
            shares.append(float(mask[y0:y1, x0:x1].mean()))
        assert math.isclose(kept, sum(shares) / 2, rel_tol=1e-5)


def test_what_holds_is_asked_of_the_teacher() -> None:
    toys = subject()
    mixers = held_methods(toys)
    assert [*mixers] == [*SOLVERS, "MixUp", "CutMix"]
    for mixer in mixers.values():
        first, last = hold(mixer, toys, [1, 4], toys.view, 3)
        for held in (first, last):
            mix, logits = held.snapshot.mix, toys.teacher(held.snapshot.mix.images)
            for row in range(len(mix)):
                classes = sorted(set(mix.source_classes[row].tolist()))
                assert len(classes) == 2
                shown = sorted(logits[row].topk(2).indices.tolist()) == classes
                assert bool(held.exact[row]) == shown
                assert [sorted(each.topk(2).indices.tolist()) == classes for each in held.looks.logits[row]] == (
                    held.looks.holds[row].tolist()
                )
        assert (last.snapshot.mix.num_steps >= first.snapshot.mix.num_steps).all()
    sources = {name: hold(mixer, toys, [1], toys.view, 1)[0].snapshot.mix for name, mixer in mixers.items()}
    first = sources["SuperMix"].source_indices
    assert all(mix.source_indices.equal(first) for mix in sources.values())


def test_means_of_equal_parts_do_not_vary() -> None:
    row = torch.tensor([[0.9, 0.1], [0.1, 0.9]]).double()
    assert deviation_of_means(row.repeat(8, 1)) == 0
    parts = torch.tensor([[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 2).double()
    assert math.isclose(deviation_of_means(parts), math.sqrt(0.5))
    assert math.isnan(deviation_of_means(parts[:3]))


def test_the_spread_of_classes() -> None:
    first = torch.tensor([[3.0, 0.0], [-3.0, 0.0]])
    second = torch.tensor([[5.0, 1.0], [5.0, 3.0]])
    assert class_spread([first, second, torch.zeros(1, 2)]) == 2.0  # 3 and 1
    assert math.isnan(class_spread([torch.zeros(1, 2)]))
