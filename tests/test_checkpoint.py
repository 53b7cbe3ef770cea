"""Checkpoints of all layouts, damaged ones, and those that would run code."""

import pickle
import re
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from supermix_pl.checkpoint import convert_checkpoint, load_checkpoint


def network(num_classes: int = 5, seed: int | None = None) -> nn.Sequential:
    if seed is not None:
        torch.manual_seed(seed)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return nn.Sequential(OrderedDict(body=body, head=nn.Linear(4, num_classes)))


@pytest.fixture
def weights() -> dict[str, Tensor]:
    module = network(seed=1)
    module[0](torch.rand(8, 3, 6, 6))  # moves the buffers
    return module.state_dict()


def renamed(weights: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    return {start + name: value for name, value in weights.items()}


def assert_loads(path: Path, weights: dict[str, Tensor], **arguments: Any) -> None:
    module = network(seed=2)
    assert load_checkpoint(module, path, **arguments) is module
    assert all(value.equal(weights[name]) for name, value in module.state_dict().items())


def test_published_layout(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save({"epoch": 240, "best_acc": torch.tensor(75.6), "model": weights}, tmp_path / "teacher.pth")
    assert_loads(tmp_path / "teacher.pth", weights)


@pytest.mark.parametrize("name", ["model", "state_dict", "net", "model_state_dict"])
def test_state_dict_under_a_name(tmp_path: Path, weights: dict[str, Tensor], name: str) -> None:
    torch.save({"epoch": 1, name: weights}, tmp_path / "teacher.pth")
    assert_loads(tmp_path / "teacher.pth", weights)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_plain_state_dict(tmp_path: Path, weights: dict[str, Tensor], kind: type, zipped: bool) -> None:
    torch.save(kind(weights), tmp_path / "teacher.pt", _use_new_zipfile_serialization=zipped)
    assert_loads(tmp_path / "teacher.pt", weights)
    assert_loads(Path(str(tmp_path / "teacher.pt")), weights)


def test_safetensors(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    safetensors.torch.save_file(weights, tmp_path / "teacher.safetensors")
    assert_loads(tmp_path / "teacher.safetensors", weights)


STARTS = ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module.", "_forward_module."]


@pytest.mark.parametrize("start", STARTS)
def test_wrappers_are_no_difference(tmp_path: Path, weights: dict[str, Tensor], start: str) -> None:
    torch.save({"model": renamed(weights, start)}, tmp_path / "teacher.pth")
    assert_loads(tmp_path / "teacher.pth", weights)
    for prefix in ("student", "student."):
        for names in (f"{start}student.", f"student.{start}", f"{start}student.{start}"):
            held = renamed(weights, names) | renamed(weights, "students.") | {"criterion.w": torch.ones(1)}
            torch.save({"state_dict": held}, tmp_path / "last.ckpt")
            assert_loads(tmp_path / "last.ckpt", weights, prefix=prefix)


def test_a_part_that_was_compiled(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    held = {name.replace("body.", "body._orig_mod."): value for name, value in weights.items()}
    torch.save(held, tmp_path / "teacher.pth")
    assert_loads(tmp_path / "teacher.pth", weights)
    torch.save(weights, tmp_path / "teacher.pth")
    module = network(seed=2)
    module.body = torch.compile(module.get_submodule("body"), backend="eager")  # pyright: ignore[reportArgumentType]
    load_checkpoint(module, tmp_path / "teacher.pth")
    assert module.state_dict()["body._orig_mod.0.weight"].equal(weights["body.0.weight"])


def test_an_averaged_model(tmp_path: Path) -> None:
    module = network(seed=1)
    torch.save({"state_dict": AveragedModel(module).state_dict()}, tmp_path / "teacher.pth")
    assert_loads(tmp_path / "teacher.pth", module.state_dict())


def test_where_wrappers_words_tell_names_apart_they_stay(tmp_path: Path) -> None:
    def both() -> nn.Module:
        return nn.ModuleDict({"module": nn.Linear(2, 2), "_orig_mod": nn.Linear(2, 2)})

    weights = both().state_dict()
    torch.save(weights, tmp_path / "teacher.pth")
    module = load_checkpoint(both(), tmp_path / "teacher.pth")
    assert all(value.equal(weights[name]) for name, value in module.state_dict().items())


class Renaming(nn.Module):
    """Upgrades the names of its first version."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 3)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        for name in ("weight", "bias"):
            if f"{prefix}module.fc.{name}" in state_dict:
                state_dict[f"{prefix}head.{name}"] = state_dict.pop(f"{prefix}module.fc.{name}")
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def test_what_torch_loads_strictly_loads(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    old = {name: value for name, value in weights.items() if "num_batches" not in name}
    for start in ("", "module."):
        torch.save({"model": renamed(old, start)}, tmp_path / "teacher.pth")
        module = load_checkpoint(network(seed=2), tmp_path / "teacher.pth")
        assert all(value.equal(old[name]) for name, value in module.state_dict().items() if name in old)
    head = nn.Linear(2, 3).state_dict()
    torch.save(renamed(head, "module.fc."), tmp_path / "teacher.pth")
    assert load_checkpoint(Renaming(), tmp_path / "teacher.pth").head.weight.equal(head["weight"])


def test_versions_of_parts_are_kept_where_names_change(tmp_path: Path) -> None:
    """A batch norm of a new file has its counter; torch lets only old files lack it."""
    wrapped = nn.Sequential(OrderedDict(module=network(seed=1))).state_dict()
    del wrapped["module.body.1.num_batches_tracked"]
    torch.save(wrapped, tmp_path / "teacher.pth")
    assert_another(tmp_path / "teacher.pth", "1 missing (body.1.num_batches_tracked)")


def test_lightning_checkpoint_with_a_prefix(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    held = (
        renamed(weights, "student.") | renamed(network(seed=3).state_dict(), "other.") | {"criterion.w": torch.ones(1)}
    )
    torch.save({"epoch": 3, "pytorch-lightning_version": "2.6.6", "state_dict": held}, tmp_path / "last.ckpt")
    assert_loads(tmp_path / "last.ckpt", weights, prefix="student.")


def test_prefix_of_nothing(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save({"state_dict": weights}, tmp_path / "last.ckpt")
    with pytest.raises(
        ValueError, match=r"expected weights whose names start with 'student\.' in .*last\.ckpt, got none"
    ):
        load_checkpoint(network(), tmp_path / "last.ckpt", prefix="student.")


def test_path_as_text(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save(weights, tmp_path / "teacher.pth")
    module = load_checkpoint(network(seed=2), str(tmp_path / "teacher.pth"))
    assert module.state_dict()["head.bias"].equal(weights["head.bias"])


def test_a_real_teacher(shared: Path) -> None:
    from supermix_pl.experiments.networks import wrn_16_2

    path = shared / "teachers" / "wrn_16_2_cifar100.pth"
    module = load_checkpoint(wrn_16_2(num_classes=100), path)
    held = torch.load(path, weights_only=True)["model"]
    assert all(value.equal(held[name]) for name, value in module.state_dict().items())


# Another network


def assert_another(path: Path, *parts: str, num_classes: int = 5) -> None:
    module = network(num_classes, seed=2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    expected = "expected the weights of this network in", str(path), "got those of another one", *parts, "look at the"
    with pytest.raises(ValueError, match=".*".join(map(re.escape, expected))):
        load_checkpoint(module, path)
    assert all(value.equal(before[name]) for name, value in module.state_dict().items())


def test_another_network(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).state_dict(), tmp_path / "teacher.pth")
    missing = "9 missing (body.0.weight; body.0.bias; body.1.weight; and 6 more)"
    unexpected = "4 unexpected (0.weight; 0.bias; 1.weight; and 1 more)"
    assert_another(tmp_path / "teacher.pth", f"{missing}, {unexpected}")


def test_another_number_of_classes(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save(weights, tmp_path / "teacher.pth")
    shapes = "2 of another shape (head.weight: expected (7, 4), got (5, 4); head.bias: expected (7,), got (5,))"
    assert_another(tmp_path / "teacher.pth", shapes, num_classes=7)


def test_one_name_too_few_and_one_too_many(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    weights["head.offset"] = weights.pop("head.bias")
    torch.save(weights, tmp_path / "teacher.pth")
    assert_another(tmp_path / "teacher.pth", "1 missing (head.bias), 1 unexpected (head.offset)")


@pytest.mark.parametrize(
    ("content", "came"),
    [
        ({"epoch": 3, "weights": [1.0]}, r"got \['epoch', 'weights'\]"),
        ([torch.ones(1)], "got list"),
        (torch.ones(3), "got Tensor"),
        (3, "got int"),
        ({"model": {"lr": 0.1}}, r"got \['lr'\]"),
    ],
)
def test_no_state_dict(tmp_path: Path, content: Any, came: str) -> None:
    torch.save(content, tmp_path / "teacher.pth")
    with pytest.raises(
        ValueError, match=f"expected a state dict, or one under model, state_dict, .*teacher.pth, {came}"
    ):
        load_checkpoint(network(), tmp_path / "teacher.pth")


# Files that cannot be read


@pytest.mark.parametrize("name", ["none.pth", "none.safetensors", "."])
def test_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected a checkpoint at .*, found no such file"):
        load_checkpoint(network(), tmp_path / name)


def assert_damaged(path: Path) -> None:
    expected = f"got {path}, which is damaged or of another kind ({path.stat().st_size} bytes); fetch or write it again"
    with pytest.raises(ValueError, match=re.escape(expected)):
        load_checkpoint(network(), path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.9])
def test_truncated(tmp_path: Path, weights: dict[str, Tensor], share: float, zipped: bool) -> None:
    path = tmp_path / "teacher.pth"
    torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert_damaged(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_truncated_safetensors(tmp_path: Path, weights: dict[str, Tensor], share: float) -> None:
    path = tmp_path / "teacher.safetensors"
    safetensors.torch.save_file(weights, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert_damaged(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "not a checkpoint\n",
        "<!DOCTYPE html><html>404</html>",
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    ],
)
@pytest.mark.parametrize("name", ["teacher.pth", "teacher.safetensors"])
def test_text(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / name).write_text(text)
    assert_damaged(tmp_path / name)


def test_another_format_under_the_name_of_safetensors(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save(weights, tmp_path / "teacher.safetensors")
    assert_damaged(tmp_path / "teacher.safetensors")


# Pickles that would run code


class Touch:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def assert_refused(path: Path) -> None:
    expected = (
        "would run code when it is read, so it is refused",
        "convert it once: supermix_pl.checkpoint.convert_checkpoint(path, new_path)",
        "safetensors.torch.save",
    )
    with pytest.raises(ValueError, match=".*".join(map(re.escape, expected))):
        load_checkpoint(network(), path)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_not_run(tmp_path: Path, weights: dict[str, Tensor], zipped: bool) -> None:
    path, mark = tmp_path / "teacher.pth", tmp_path / "touched"
    torch.save({"model": weights, "callback": Touch(mark)}, path, _use_new_zipfile_serialization=zipped)
    assert_refused(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()  # it would have been


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_plain_pickle_is_not_run(tmp_path: Path, protocol: int) -> None:
    path, mark = tmp_path / "teacher.pth", tmp_path / "touched"
    path.write_bytes(pickle.dumps({"model": Touch(mark)}, protocol=protocol))
    with pytest.raises(ValueError, match=r"refused|damaged"):
        load_checkpoint(network(), path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "teacher.pth")
    assert_refused(tmp_path / "teacher.pth")


def test_settings_of_foreign_classes_are_refused(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    torch.save({"model": weights, "opt": Namespace(lr=0.1)}, tmp_path / "teacher.pth")
    assert_refused(tmp_path / "teacher.pth")


REFUSED: dict[str, Any] = {
    "RepDistiller": lambda weights: {"model": weights, "opt": Namespace(lr=0.1)},
    "Lightning": lambda weights: {"state_dict": weights, "hyper_parameters": {"data": Path("x")}},
    "timm": lambda weights: {"arch": "x", "state_dict": weights, "args": Namespace()},
    "whole module": lambda weights: network(seed=1),
    "module under a name": lambda weights: {"model": network(seed=1)},
    "twice under a name": lambda weights: {"model": {"state_dict": weights, "args": Namespace()}},
    "arrays": lambda weights: {"model": {name: value.numpy() for name, value in weights.items()}},
}


@pytest.mark.parametrize("kind", REFUSED)
def test_the_advice_of_the_refusal_works(tmp_path: Path, kind: str) -> None:
    weights = network(seed=1).state_dict()
    path, new_path = tmp_path / "teacher.pth", tmp_path / "converted.pth"
    torch.save(REFUSED[kind](weights), path)
    assert_refused(path)
    convert_checkpoint(path, new_path)
    assert_loads(new_path, weights)


def test_arrays_of_a_plain_pickle_are_converted(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path, new_path = tmp_path / "teacher.pkl", tmp_path / "converted.pth"
    path.write_bytes(pickle.dumps({"model": {name: value.numpy() for name, value in weights.items()}}, protocol=2))
    assert_refused(path)
    convert_checkpoint(path, new_path)
    assert_loads(new_path, weights)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="damaged or of another kind"):
        convert_checkpoint(path, new_path)


def test_lazy_layers_take_the_shapes_of_the_file(tmp_path: Path) -> None:
    torch.save(nn.Linear(4, 5).state_dict(), tmp_path / "teacher.pth")
    assert load_checkpoint(nn.LazyLinear(5), tmp_path / "teacher.pth").weight.shape == (5, 4)
    torch.save({"weight": torch.ones(5, 4)}, tmp_path / "teacher.pth")
    with pytest.raises(ValueError, match=r"expected the weights of this network .*1 missing \(bias\)"):
        load_checkpoint(nn.LazyLinear(5), tmp_path / "teacher.pth")


def test_nothing_to_convert(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a checkpoint at"):
        convert_checkpoint(tmp_path / "none.pth", tmp_path / "new.pth")
    torch.save({"epoch": 3, "args": Namespace()}, tmp_path / "teacher.pth")
    with pytest.raises(ValueError, match=r"expected a state dict, or one under .*got \['epoch', 'args'\]"):
        convert_checkpoint(tmp_path / "teacher.pth", tmp_path / "new.pth")


# Programs


@pytest.mark.filterwarnings("ignore")  # torch's own on TorchScript and export
def test_programs_need_no_network(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    torch.jit.save(torch.jit.script(module), tmp_path / "teacher.pt")
    torch.export.save(torch.export.export(module, (torch.rand(2, 3, 2, 2),)), tmp_path / "teacher.pt2")
    for name, loader in (("teacher.pt", "torch.jit.load("), ("teacher.pt2", "torch.export.load(")):
        with pytest.raises(ValueError, match=re.escape(f"give FrozenTeacher({loader}{str(tmp_path / name)!r})")):
            load_checkpoint(network(), tmp_path / name)
