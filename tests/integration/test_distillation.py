"""`distillation_weight`: Hinton's loss beside that of any module, equal to the two lines that somebody would write."""

import contextlib
import copy
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.tuner.tuning import Tuner
from torch import Tensor, nn

from supermix_pl import MixUp, MovingAverage, SuperMixCallback
from supermix_pl.losses import distillation_loss, soft_cross_entropy
from tests.integration.toys import (
    NUM_CLASSES,
    SIDE,
    Teacher,
    assert_same_tensors,
    loader,
    make_callback,
    make_trainer,
    weights,
)


class Flat(nn.Module):
    """Flattens, and gives what a linear layer gives."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(NUM_CLASSES * SIDE * SIDE, NUM_CLASSES)

    def forward(self, images: Tensor) -> Any:
        return self.layer(images.flatten(1))


class Student(pl.LightningModule):
    """Somebody's module, plain cross-entropy; `logits` is what its variants call the network by."""

    def __init__(self) -> None:
        super().__init__()
        self.network: Any = Flat()

    def forward(self, images: Tensor) -> Any:
        return self.network(images)

    def logits(self, images: Tensor) -> Tensor:
        return self(images)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return soft_cross_entropy(self.logits(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class ByHand(Student):
    """The two lines: what the callback is to do."""

    def __init__(self, mixing: SuperMixCallback, weight: float = 0.9, temperature: float = 4.0) -> None:
        super().__init__()
        self.mixing, self.weight, self.temperature = mixing, weight, temperature

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        logits, taught = self(batch[0]), self.mixing.teacher_logits
        own = soft_cross_entropy(logits, batch[1])
        if taught is None:
            return own
        loss = distillation_loss(logits, taught, temperature=self.temperature)
        return (1 - self.weight) * own + self.weight * loss


class CallsItsPart(Student):
    def logits(self, images: Tensor) -> Tensor:
        return self.network(images)


class KeepsADict(Student):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.ModuleDict({"student": self.network, "unused": nn.Identity()})

    def logits(self, images: Tensor) -> Tensor:
        return self.network["student"](images)


class GivesAnOutput(Student):
    def forward(self, images: Tensor) -> Any:
        return SimpleNamespace(logits=self.network(images))

    def logits(self, images: Tensor) -> Tensor:
        return self(images).logits


class ReturnsADict(Student):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": super().training_step(batch, batch_idx), "more": 1}


class AsksOthers(Student):
    """What is frozen and what is TorchScript stands beside its network, and gives as many numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = Flat().requires_grad_(False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls it deprecated
            self.scripted = torch.jit.script(nn.Identity())

    def logits(self, images: Tensor) -> Tensor:
        return self.network(images) + 0 * self.scripted(self.frozen(images))


class LooksTwice(Student):
    def logits(self, images: Tensor) -> Tensor:
        return (self(images) + self(images)) / 2


class GivesLogProbabilities(Student):
    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).log_softmax(dim=1)


class HasAnotherHead(Student):
    """Its own heads stand beside each other; none is called by the module itself."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Sequential(nn.Flatten(), nn.LazyLinear(NUM_CLASSES)), nn.Linear(NUM_CLASSES, 3)

    def logits(self, images: Tensor) -> Tensor:
        return self.network(images) + 0 * self.head(self.features(images))


class CallsMethods(Student):
    """Calls parts of its network, as timm's `forward_head` does, and not the network."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        parts = nn.ModuleDict({"body": nn.Linear(NUM_CLASSES * SIDE * SIDE, 8), "head": nn.Linear(8, NUM_CLASSES)})
        self.network = nn.Sequential(parts)

    def features(self, images: Tensor) -> Tensor:
        return self.network[0]["body"](images.flatten(1))

    def logits(self, images: Tensor) -> Tensor:
        return self.network[0]["head"](self.features(images))


class CallsMethodsAndAnotherHead(CallsMethods):
    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.Linear(8, NUM_CLASSES)

    def logits(self, images: Tensor) -> Tensor:
        return super().logits(images) + 0 * self.auxiliary(self.features(images))


class SharesItsHead(CallsMethods):
    """Its head stands beside the network, too, and is called there; another head is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.head = self.network[0]["head"]
        self.unused = nn.Sequential(nn.Linear(8, NUM_CLASSES))


class GivesProbabilities(Student):
    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).softmax(dim=1)


class ForgetsTheLoss(Student):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"its": super().training_step(batch, batch_idx)}


class SkipsSteps(Student):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None if batch_idx else super().training_step(batch, batch_idx)


class ReturnsNoLossInADict(Student):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": None}


class KnowsFewer(Student):
    """Tells two classes apart, the teacher three."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch[0]).square().mean()


class GivesSigmoids(Student):
    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).sigmoid()


class LooksAtOthers(Student):
    """Unlabelled images, second views, adversarial ones: as many as the batch has, but others."""

    def logits(self, images: Tensor) -> Tensor:
        others = self(torch.rand_like(images))
        return self(images) + 0 * others


class LooksAtOthersWithin(KeepsADict):
    """Its forward gives logits among other outputs: those of the part count."""

    def forward(self, images: Tensor) -> Any:
        return self.network["student"](images), images

    def logits(self, images: Tensor) -> Tensor:
        others, _ = self(torch.rand_like(images))
        return self(images)[0] + 0 * others


class LooksAtViewsAlone(Student):
    def logits(self, images: Tensor) -> Tensor:
        return (self(images + 0) + self(images + 0)) / 2


class TreatsAnError(Student):
    def logits(self, images: Tensor) -> Tensor:
        with contextlib.suppress(RuntimeError):
            self(images[:, :, 1:])
        return self(images)


class KeepsItsLoss(Student):
    """torch's loss is a part that gives as many numbers as the network."""

    def __init__(self) -> None:
        super().__init__()
        self.criterion = nn.BCEWithLogitsLoss(reduction="none")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        logits = self.logits(batch[0])
        return soft_cross_entropy(logits, batch[1]) + 0 * self.criterion(logits, batch[1]).mean()


class SometimesBlind(Teacher):
    """Gives NaN for images whose first pixel is rather bright: some or all of a batch."""

    def __init__(self, least: float) -> None:
        super().__init__()
        self.least = least

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).where(images[:, :1, 0, 0] <= self.least, torch.nan)


class OptimizesItself(Student):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


def fit(folder: Path, module: Any, mixing: SuperMixCallback, **options: Any) -> Any:
    trainer = make_trainer(folder, mixing, **options)
    trainer.fit(module, loader())
    return trainer


def by_hand(folder: Path, options: dict[str, Any] | None = None, **trainer: Any) -> dict[str, Tensor]:
    """Weights of the module that writes the lines itself."""
    mixing = make_callback(label_natural=True, **(options or {}))
    module = ByHand(mixing)
    fit(folder, module, mixing, **trainer)
    return weights(module)


@pytest.mark.parametrize(
    "student",
    [
        Student,
        CallsItsPart,
        KeepsADict,
        GivesAnOutput,
        ReturnsADict,
        AsksOthers,
        LooksTwice,
        LooksAtViewsAlone,
        LooksAtOthers,
        LooksAtOthersWithin,
        TreatsAnError,
        GivesLogProbabilities,
    ],
)
def test_any_module_learns_what_the_two_lines_teach(student: type[Student], tmp_path: Path) -> None:
    module = student()
    trainer = fit(tmp_path, module, make_callback(distillation_weight=0.9))
    assert "training_step" not in vars(trainer.strategy)
    expected = by_hand(tmp_path)
    values = {name.replace(".student", ""): value for name, value in weights(module).items()}
    for name, value in expected.items():
        torch.testing.assert_close(values[name], value)
    plain = Student()
    fit(tmp_path, plain, make_callback())
    assert not torch.allclose(plain.network.layer.weight, expected["network.layer.weight"], atol=1e-3)


@pytest.mark.parametrize(
    ("options", "trainer"),
    [
        ({"engine": "stream"}, {}),
        ({"mode": "replace"}, {}),
        ({"targets": "pairs"}, {}),
        ({"every_n_batches": 2}, {"accumulate_grad_batches": 2}),
        ({"mix_ratio": 0.5, "stop_epoch": 1}, {"max_epochs": 2}),
        ({}, {"precision": "bf16-mixed"}),
        ({}, {"precision": "bf16-true"}),
    ],
    ids=str,
)
def test_in_every_setting(options: dict[str, Any], trainer: dict[str, Any], tmp_path: Path) -> None:
    module = Student()
    fit(tmp_path, module, make_callback(distillation_weight=0.9, **options), **trainer)
    assert_same_tensors(weights(module), by_hand(tmp_path, options, **trainer))


def test_a_loss_among_the_parts_gives_no_logits(tmp_path: Path) -> None:
    module = KeepsItsLoss()
    fit(tmp_path, module, make_callback(distillation_weight=0.9, targets="soft"))
    assert_same_tensors(weights(module), by_hand(tmp_path, {"targets": "soft"}))


@pytest.mark.parametrize(("least", "given"), [(0.75, {}), (-1.0, {"mixer": MixUp(), "targets": "soft"})])
def test_rows_that_the_teacher_cannot_see_are_left_out(least: float, given: dict[str, Any], tmp_path: Path) -> None:
    class ByHandWhereSeen(ByHand):
        blind: list[bool] = []

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            logits, taught = self(batch[0]), self.mixing.teacher_logits
            assert taught is not None
            own, seen = soft_cross_entropy(logits, batch[1]), taught.isfinite().all(dim=1)
            self.blind.append(not bool(seen.all()))
            return 0.1 * own + 0.9 * distillation_loss(logits[seen], taught[seen]) if seen.any() else own

    module, options = Student(), {"max_epochs": 3, "log_every_n_steps": 1}
    trainer = fit(tmp_path, module, make_callback(SometimesBlind(least), distillation_weight=0.9, **given), **options)
    assert trainer.callback_metrics["supermix/distillation_loss"].isfinite()
    mixing = make_callback(SometimesBlind(least), label_natural=True, **given)
    expected = ByHandWhereSeen(mixing)
    fit(tmp_path, expected, mixing, **options)
    assert any(expected.blind)
    for name, value in weights(expected).items():
        torch.testing.assert_close(weights(module)[name], value)


def test_weight_and_temperature(tmp_path: Path) -> None:
    module, mixing = Student(), make_callback(distillation_weight=0.3, distillation_temperature=2.0)
    fit(tmp_path, module, mixing)
    hand = make_callback(label_natural=True)
    expected = ByHand(hand, 0.3, 2.0)
    fit(tmp_path, expected, hand)
    assert_same_tensors(weights(module), weights(expected))


def test_before_an_average_exists_the_loss_is_the_module_s(tmp_path: Path) -> None:
    modules = []
    for options in ({"distillation_weight": 0.9}, {}):
        module = Student()
        mixing = make_callback(MovingAverage(), MixUp(), targets="soft", start_epoch=1, **options)
        make_trainer(tmp_path, mixing, max_epochs=2, max_steps=3).fit(module, loader())
        modules.append(weights(module))
    assert_same_tensors(*modules)


@pytest.fixture
def process_group() -> Iterator[None]:
    """A port for Lightning, and an end of what it leaves behind: later tests would be of a distributed program."""
    with patch.dict(os.environ, {"MASTER_PORT": "0"}):
        yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_wrapped_by_ddp(tmp_path: Path) -> None:
    module = Student()
    ddp = {"strategy": "ddp", "devices": 1}
    fit(tmp_path, module, make_callback(distillation_weight=0.9), **ddp)
    assert_same_tensors(weights(module), by_hand(tmp_path, **ddp))


def _compile_network(module: Student) -> Any:
    module.network = torch.compile(module.network, backend="eager")
    return module


def _compile_in_place(module: Student) -> Any:
    module.network.compile(backend="eager")
    return module


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of torch, while it traces
@pytest.mark.parametrize(
    "compiled", [_compile_network, _compile_in_place, lambda module: torch.compile(module, backend="eager")]
)
@pytest.mark.parametrize("student", [Student, LooksAtOthers])
def test_a_compiled_module(compiled: Any, student: type[Student], tmp_path: Path) -> None:
    module = student()
    fit(tmp_path, compiled(module), make_callback(distillation_weight=0.9))
    values = {name.replace("_orig_mod.", ""): value for name, value in weights(module).items()}
    assert_same_tensors(values, by_hand(tmp_path))


def test_the_loss_is_logged_and_the_module_s_own_stays_in_its_logs(tmp_path: Path) -> None:
    mixing = make_callback(distillation_weight=0.9)
    trainer = fit(tmp_path, Student(), mixing, log_every_n_steps=1)
    assert trainer.callback_metrics["supermix/distillation_loss"] > 0
    assert "distillation_weight=0.9" in repr(mixing)
    assert "label_natural" not in repr(mixing)
    trainer = fit(tmp_path, Student(), make_callback(distillation_weight=0.9, log=False), log_every_n_steps=1)
    assert not trainer.callback_metrics
    fit(tmp_path, Student(), make_callback(distillation_weight=0.9), barebones=True)  # which warns of what is logged


def test_a_step_that_is_skipped_or_has_no_loss_is_lightning_s_affair(tmp_path: Path) -> None:
    skipping, once = SkipsSteps(), Student()
    with pytest.warns(UserWarning, match="returned `None`"):
        fit(tmp_path, skipping, make_callback(distillation_weight=0.9))
    fit(tmp_path, once, make_callback(distillation_weight=0.9), limit_train_batches=1)
    assert_same_tensors(weights(skipping), weights(once))
    with pytest.raises(MisconfigurationException, match="the 'loss' key needs to be present"):
        fit(tmp_path, ForgetsTheLoss(), make_callback(distillation_weight=0.9))
    with pytest.raises(MisconfigurationException, match="the 'loss' key needs to be present"):
        fit(tmp_path, ReturnsNoLossInADict(), make_callback(distillation_weight=0.9))


def test_a_copy_in_the_midst_of_a_fit_has_no_hooks(tmp_path: Path) -> None:
    class Copies(pl.Callback):
        copies: list[Any] = []

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.copies.append(copy.deepcopy(pl_module.network))

    copies = Copies()
    trainer = make_trainer(tmp_path, make_callback(distillation_weight=0.9), copies)
    trainer.fit(Student(), loader())
    assert not any(part._forward_hooks or part._forward_pre_hooks for each in copies.copies for part in each.modules())


@pytest.mark.parametrize(
    ("student", "options", "message"),
    [
        (HasAnotherHead, {}, r"\); name the part that gives the logits"),
        (KnowsFewer, {}, r"got 0 among .*\(\d+, 2\); for fewer .*class_indices"),
        (CallsMethods, {}, r'got 0 .* themselves: network\.0\.head; .*logits_of="network\.0\.head"'),
        (CallsMethodsAndAnotherHead, {}, r"got 1 .* themselves: network\.0\.head;"),
        (GivesProbabilities, {}, "got probabilities: rows"),
        (GivesSigmoids, {}, "got probabilities: outputs of a sigmoid"),
        (OptimizesItself, {}, "automatic_optimization=False"),
        (Student, {"logits_of": "netwrk"}, "such as network"),
    ],
)
def test_what_cannot_be_distilled(
    student: type[Student], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, student(), make_callback(distillation_weight=0.9, **options))


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used:UserWarning")
def test_a_name_that_is_wrong_is_told_in_a_trial_run_too(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, make_callback(distillation_weight=0.9, logits_of="netwrk"))
    with pytest.raises(ValueError, match="such as network"):
        Tuner(trainer).lr_find(Student(), loader(), num_training=2, update_attr=False)


def test_a_named_part(tmp_path: Path) -> None:
    module = HasAnotherHead()
    fit(tmp_path, module, make_callback(distillation_weight=0.9, logits_of="network"))
    expected = by_hand(tmp_path)
    torch.testing.assert_close(module.network.layer.weight.detach(), expected["network.layer.weight"])


def test_a_layer_within_a_part_that_is_not_called(tmp_path: Path) -> None:
    named, shared = CallsMethodsAndAnotherHead(), SharesItsHead()
    fit(tmp_path, named, make_callback(distillation_weight=0.9, logits_of="network.0.head"))
    fit(tmp_path, shared, make_callback(distillation_weight=0.9))
    assert_same_tensors(weights(named.network), weights(shared.network))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distillation_weight": 1.5}, "distillation_weight"),
        ({"distillation_weight": 0.5, "distillation_temperature": 0.0}, "distillation_temperature"),
        ({"logits_of": "network"}, "expected distillation_weight > 0 with logits_of='network', .*got 0; give"),
        (
            {"distillation_temperature": 2.0},
            "expected distillation_weight > 0 with distillation_temperature=2.0, .*got 0",
        ),
    ],
)
def test_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_callback(**options)
