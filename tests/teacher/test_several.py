"""Several teachers that teach as one: the mean of their probabilities."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from supermix_pl import FrozenTeacher, MixUp, SuperMix, SuperMixCallback
from supermix_pl.experiments.building import build
from supermix_pl.experiments.data import Shapes
from supermix_pl.experiments.networks import resnet8
from supermix_pl.experiments.shared.digests import digest_teacher
from tests.integration.toys import Student, loader_of, make_callback, make_trainer, natural_data
from tests.problems import NUM_CLASSES, FlatTeacher, SmoothTeacher, natural_images

IMAGES = natural_images(5, (8, 8), dtype=torch.float32)


def teachers() -> list[FrozenTeacher]:
    """One of another normalisation, one of another size, one in another precision."""
    return [
        FrozenTeacher(FlatTeacher(), mean=(0.1, 0.2, 0.3), std=(2.0, 1.0, 0.5)),
        FrozenTeacher(FlatTeacher(side=12, seed=1), image_size=12),
        FrozenTeacher(SmoothTeacher(seed=2)),
    ]


def expected(images: Tensor) -> Tensor:
    return torch.stack([teacher(images).softmax(dim=1) for teacher in teachers()]).mean(dim=0)


def test_probabilities_and_gradients_are_the_mean() -> None:
    mean = FrozenTeacher.mean_of(teachers())
    leaf, other = (IMAGES.clone().requires_grad_() for _ in range(2))
    logits = mean(leaf)
    torch.testing.assert_close(logits.softmax(dim=1), expected(IMAGES))
    torch.testing.assert_close(logits.exp().sum(dim=1), torch.ones(5))
    (found,) = torch.autograd.grad(logits[:, 1].sum(), leaf)
    (wanted,) = torch.autograd.grad(expected(other)[:, 1].log().sum(), other)
    torch.testing.assert_close(found, wanted)
    assert mean.num_classes == NUM_CLASSES
    torch.testing.assert_close(mean(IMAGES.bfloat16()), mean(IMAGES.bfloat16().float()))
    for again in (copy.deepcopy(mean), pickle.loads(pickle.dumps(mean))):
        assert again(IMAGES).equal(mean(IMAGES))


def test_far_apart_logits_stay_finite() -> None:
    class Sure(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean(dim=(2, 3)) * 0 + torch.tensor([1e4, 0.0, -1e4])

    assert FrozenTeacher.mean_of([Sure(), Sure()])(IMAGES).isfinite().all()


def test_batch_norm_of_each_is_folded_and_follows_its_weights() -> None:
    networks = [resnet8(num_classes=4).eval() for _ in range(2)]
    mean = FrozenTeacher.mean_of(networks)
    images = torch.rand(2, 3, 32, 32)

    def wanted() -> Tensor:
        return torch.stack([network(images).softmax(dim=1) for network in networks]).mean(dim=0).detach()

    torch.testing.assert_close(mean(images).softmax(dim=1), wanted())
    with torch.no_grad():
        networks[1].fc.bias[0] += 1.0  # pyright: ignore
    torch.testing.assert_close(mean(images).softmax(dim=1), wanted())
    for weight in networks[1].parameters():
        weight.data *= 1.5
    mean.refold()
    torch.testing.assert_close(mean(images).softmax(dim=1), wanted())


@pytest.mark.parametrize("mixer", [SuperMix(mask_size=4, max_steps=2), MixUp()])
def test_a_mean_teaches_a_mixer_called_by_hand(mixer: Any) -> None:
    mix = mixer(FrozenTeacher.mean_of([FlatTeacher(), FlatTeacher(seed=1)]), IMAGES, seed=0)
    two = [FrozenTeacher(FlatTeacher(seed=seed))(mix.images).softmax(dim=1) for seed in (0, 1)]
    torch.testing.assert_close(mix.teacher_logits.softmax(dim=1), torch.stack(two).mean(dim=0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("engine", ["batch", "stream"])
def test_labels_of_every_row_are_of_the_mean(engine: str, late: bool, tmp_path: Path) -> None:
    student, both = Student(num_classes=NUM_CLASSES), teachers()
    callback = SuperMixCallback(
        (lambda: both) if late else both,
        SuperMix.fast(mask_size=4, max_steps=2),
        engine=engine,  # pyright: ignore
        targets="teacher_soft",
        natural_targets="teacher",
    )
    images, labels = natural_data(4)
    make_trainer(tmp_path, callback).fit(student, loader_of([[images, labels]] * 2))
    for shown, given in zip(student.images, student.labels, strict=True):
        torch.testing.assert_close(given, expected(shown), atol=1e-5, rtol=1e-4)


def test_several_earlier_runs(tmp_path: Path) -> None:
    class Logits(Student):
        def forward(self, images: Tensor) -> Tensor:
            return self.layer(images.flatten(1))

    runs = [Logits(), Logits()]
    with torch.no_grad():
        runs[1].layer.weight.mul_(-3.0)
    paths = [tmp_path / "first.ckpt", tmp_path / "second.ckpt"]
    for run, path in zip(runs, paths, strict=True):
        torch.save({"state_dict": run.state_dict()}, path)
    images, labels = natural_data(4)
    callback, student = make_callback(paths, targets="teacher_soft", natural_targets="teacher"), Logits()
    make_trainer(tmp_path, callback).fit(student, loader_of([[images, labels]]))
    wanted = torch.stack([run(images).softmax(dim=1) for run in runs]).mean(dim=0).detach()
    torch.testing.assert_close(student.labels[0][:4], wanted)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "expected at least one teacher"),
        ([FlatTeacher(), FlatTeacher(7)], "expected teachers of the same classes, got .6, 7. classes"),
        ([FrozenTeacher(FlatTeacher(), compile=True)], "expected teachers without compile and features"),
        ([FrozenTeacher(FlatTeacher(), features="head")], "expected teachers without compile and features"),
    ],
)
def test_teachers_that_do_not_go_together(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrozenTeacher.mean_of(given)(IMAGES)


def test_known_numbers_of_classes_are_compared_at_once() -> None:
    known = [FrozenTeacher(FlatTeacher(), class_indices=[0, 1]), FrozenTeacher(FlatTeacher(), class_indices=[0, 1, 2])]
    with pytest.raises(ValueError, match=r"same classes, got .2, 3."):
        FrozenTeacher.mean_of(known)


@pytest.mark.parametrize("given", [["ema"], [FlatTeacher(), "first.ckpt"], []])
def test_lists_that_are_no_teachers(given: Any) -> None:
    with pytest.raises((TypeError, FileNotFoundError), match="expected teacher"):
        SuperMixCallback(given)


def test_a_teacher_in_a_mean_may_not_be_trained(tmp_path: Path) -> None:
    student = Student()
    network = nn.Sequential(nn.Flatten(), student.layer)
    with pytest.raises(ValueError, match="shares no parameter"):
        make_trainer(tmp_path, make_callback([FlatTeacher(), network])).fit(student, loader_of([natural_data(4)]))


def test_what_it_is_known_by() -> None:
    mean = FrozenTeacher.mean_of(teachers()[:2])
    assert "mean_of([FrozenTeacher(FlatTeacher, mean=" in repr(SuperMixCallback(mean))
    plain = [
        FrozenTeacher.mean_of([FlatTeacher(), FrozenTeacher(FlatTeacher(), mean=[value] * 3, std=[1.0] * 3)])
        for value in (0.1, 0.1, 0.2)
    ]
    digests = [digest_teacher(each) for each in plain]
    assert digests[0] == digests[1] != digests[2]


def test_from_the_experiments_configs() -> None:
    nodes = (
        {"_target_": "tests.teacher.test_several.built", "head": 0},
        {"_target_": "tests.teacher.test_several.built"},
    )
    several = {"first": nodes[0], "second": nodes[1] | {"head": 1}, "third": nodes[1] | {"head": 2}}
    node = {"_target_": "supermix_pl.experiments.teachers.mean_teacher", "_recursive_": False, "teachers": several}
    mean = build(OmegaConf.create(node), datamodule=Shapes(train_size=4, test_size=4))
    wanted = torch.stack([built(head=head)(IMAGES).softmax(dim=1) for head in range(3)]).mean(dim=0)
    torch.testing.assert_close(mean(IMAGES).softmax(dim=1), wanted)


def built(datamodule: Shapes | None = None, *, head: int) -> FrozenTeacher:
    return FrozenTeacher(FlatTeacher(seed=head))


def test_from_hydra() -> None:
    node = {"_target_": "supermix_pl.FrozenTeacher", "module": {"_target_": "tests.problems.FlatTeacher"}}
    callback = instantiate({"_target_": "supermix_pl.SuperMixCallback", "teacher": [node, node | {"image_size": 8}]})
    assert callback.teacher(IMAGES).shape == (5, NUM_CLASSES)
