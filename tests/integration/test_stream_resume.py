"""A resumed stream goes on as the uninterrupted one, to the bit, where its tensors were saved; else it says so."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from supermix_pl import CutMix, MixUp, OneOf, SuperMix, SuperMixCallback
from supermix_pl.engine import StreamEngine
from supermix_pl.trainer.side_files import read
from supermix_pl.transforms import RandomCropFlip
from tests.integration.test_resume import (
    Failing,
    Resumable,
    Rewinding,
    SavingOnException,
    assert_continues,
    every_step,
    fit,
    pytestmark,  # noqa: F401
)
from tests.integration.toys import NUM_CLASSES, Student, Teacher, make_callback, make_trainer

EPOCHS = 4
STEPS = 12  # three in an epoch
MIXER = SuperMix(k=2, mask_size=4, min_steps=2, max_steps=4, max_logit_step=1.0, pairing="random")
KIND: dict[str, Any] = {"max_epochs": EPOCHS}


def streaming(*, teacher: Any = None, save_state: bool = True, seed: int = 3, **options: Any) -> SuperMixCallback:
    """Uses every stream of chance."""
    size: dict[str, Any] = {"slots": 20} if "budget" in options else {"slots": 20, "reuse": 2}
    engine = StreamEngine(**{**size, **options})
    return make_callback(
        teacher, MIXER, engine=engine, save_state=save_state, seed=seed, probability=0.8, log=True,
        mixed_transform=RandomCropFlip(padding=1),
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Student, Path]:
    """An uninterrupted run with a checkpoint after every step."""
    folder = tmp_path_factory.mktemp("whole")
    return fit(folder, streaming(), every_step(folder), **KIND), folder


def resumed(folder: Path, checkpoint: Path, callback: SuperMixCallback | None = None, **options: Any) -> Student:
    callback = callback or streaming()
    return fit(folder, callback, resume=checkpoint, enable_checkpointing=False, **{**KIND, **options})


def test_the_whole_run_replays_sets_that_ended(whole: tuple[Student, Path]) -> None:
    student, folder = whole
    assert len(student.images) == STEPS
    assert [mix is None for mix in student.mixes].count(True) in range(1, 5)
    assert len(list(folder.glob("*.ckpt"))) == len(list(folder.glob("*.safetensors"))) == STEPS
    state = torch.load(folder / "step=12.ckpt", weights_only=True)["callbacks"]["SuperMixCallback"]["engine"]
    tensors = read(folder / f"step=12.ckpt.supermix-step{state['step']}-rank0.safetensors")
    assert tensors is not None
    assert tensors["store/counts"][1] > 0  # sets that came to the store
    assert tensors["images/counts"][1] > 4


@pytest.mark.parametrize("step", [1, 2, 4, 6, 7, 11])
def test_resumed_after_a_step(whole: tuple[Student, Path], tmp_path: Path, step: int) -> None:
    student, folder = whole
    assert_continues(resumed(tmp_path, folder / f"step={step}.ckpt"), student, step)


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 5, 8, 9, 10])
def test_resumed_after_any_other_step(whole: tuple[Student, Path], tmp_path: Path, step: int) -> None:
    test_resumed_after_a_step(whole, tmp_path, step)


@pytest.mark.filterwarnings("ignore:The dirpath has changed from:UserWarning")
def test_resumed_twice(whole: tuple[Student, Path], tmp_path: Path) -> None:
    student, folder = whole
    fit(tmp_path, streaming(), every_step(tmp_path), resume=folder / "step=4.ckpt", **{**KIND, "max_epochs": 3})
    assert_continues(resumed(tmp_path, tmp_path / "step=8.ckpt"), student, 8)


class Convolving(nn.Module):
    """Its sums depend on the memory format of the images; knows the bright channel."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = nn.Parameter(torch.randn(16, NUM_CLASSES, 3, 3, generator=torch.Generator().manual_seed(0)))
        self.teacher = Teacher()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = conv2d(images, self.kernels, padding=1).tanh().mean(dim=(2, 3))
        return self.teacher(images) + hidden[:, :NUM_CLASSES]


class ChannelsLast(Resumable):
    def __init__(self) -> None:
        super().__init__()
        self.images = self.images.to(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "options",
    [
        {"reuse": 40},
        {"slots": 5, "show_from": 0},
        {"default_transform": None},
        pytest.param({"reuse": 0.5}, marks=pytest.mark.slow),
        pytest.param({"budget": 0.5}, marks=pytest.mark.slow),
    ],
)
def test_resumed_with_other_engines(tmp_path: Path, options: dict[str, Any]) -> None:
    epochs: dict[str, Any] = {"max_epochs": 8} if "budget" in options else KIND
    student = fit(tmp_path, streaming(**options), every_step(tmp_path), **epochs)
    step = 20 if "budget" in options else 7
    assert_continues(resumed(tmp_path, tmp_path / f"step={step}.ckpt", streaming(**options), **epochs), student, step)


@pytest.mark.parametrize(
    "mixer", [MixUp(k=3), OneOf([MixUp(), CutMix()]), SuperMix.fast(mask_size=4, max_steps=3)], ids=lambda one: one.k
)
def test_resumed_with_other_mixers(tmp_path: Path, mixer: Any) -> None:
    def again() -> SuperMixCallback:
        engine = StreamEngine(slots=None if isinstance(mixer, SuperMix) else 5, store_bytes=40_000)
        return make_callback(mixer=mixer, engine=engine, save_state=True, label_natural=True, probability=0.8)

    student = fit(tmp_path, again(), every_step(tmp_path), **KIND)
    for step in (1, 7):
        assert_continues(resumed(tmp_path, tmp_path / f"step={step}.ckpt", again()), student, step)


def test_where_turns_are_rare_a_store_that_was_not_saved_begins_with_one(tmp_path: Path) -> None:
    def again() -> SuperMixCallback:
        return streaming(save_state=False, reuse=60)

    fit(tmp_path, again(), every_step(tmp_path), **KIND)
    for step in range(1, 12):
        continued = resumed(tmp_path, tmp_path / f"step={step}.ckpt", again())
        assert len(continued.images) == STEPS - step


def test_resumed_in_channels_last(tmp_path: Path) -> None:
    def again() -> SuperMixCallback:
        return streaming(teacher=Convolving())

    student = fit(tmp_path, again(), every_step(tmp_path), data=ChannelsLast(), **KIND)
    assert student.images[-1].is_contiguous(memory_format=torch.channels_last)
    continued = resumed(tmp_path, tmp_path / "step=5.ckpt", again(), data=ChannelsLast())
    assert_continues(continued, student, 5)


class Breaking(Failing):
    """Fails between two steps."""

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.trainer.fit_loop.total_batch_idx == 7:
            raise ZeroDivisionError("power cut")


def test_resumed_after_an_exception_between_two_steps(whole: tuple[Student, Path], tmp_path: Path) -> None:
    """The checkpoint is written by a hook of someone else, after ours."""
    saving = SavingOnException(tmp_path / "cut.ckpt")
    with pytest.raises(ZeroDivisionError, match="power cut"):
        fit(tmp_path, streaming(), saving, student=Breaking(), **KIND)
    assert_continues(resumed(tmp_path, tmp_path / "cut.ckpt"), whole[0], 8)


def test_resumed_after_an_exception_within_a_step(whole: tuple[Student, Path], tmp_path: Path) -> None:
    """The stream is a step ahead then, as its batch was mixed and not trained on; it is there all the same."""
    failing, saving = Failing(), SavingOnException(tmp_path / "cut.ckpt")
    failing.fails_at = 7
    data = Rewinding(failing)
    with pytest.raises(ZeroDivisionError, match="power cut"):
        fit(tmp_path, streaming(), saving, student=failing, data=data, **KIND)
    continued = resumed(tmp_path, tmp_path / "cut.ckpt")
    assert len(continued.images) == STEPS - 7
    steps = continued.mixes[-1], whole[0].mixes[-1]
    assert all(mix is not None and mix.num_steps.max() > 0 for mix in steps)


def test_without_save_state_the_store_fills_anew(
    whole: tuple[Student, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    student, folder = whole
    continued = resumed(tmp_path, folder / "step=7.ckpt", streaming(save_state=False))
    assert caplog.text.count("was not saved (save_state=False), so it fills anew") == 1
    assert_anew(continued, student)


def assert_anew(continued: Student, student: Student) -> None:
    """The natural images are the same, the mixes are others."""
    for images, expected in zip(continued.images, student.images[7:], strict=True):
        assert images.shape == expected.shape
        assert torch.equal(images[:4], expected[:4])
    assert any(not torch.equal(*pair) for pair in zip(continued.images, student.images[7:], strict=True))


def test_missing_file(whole: tuple[Student, Path], tmp_path: Path) -> None:
    student, folder = whole
    checkpoint = tmp_path / "step=7.ckpt"
    checkpoint.write_bytes((folder / "step=7.ckpt").read_bytes())
    with pytest.warns(UserWarning, match=r"Expected .*step=7\.ckpt\.supermix-step\d+-rank0\.safetensors, .* not there"):
        continued = resumed(tmp_path, checkpoint)
    assert_anew(continued, student)


def test_other_seed(whole: tuple[Student, Path], tmp_path: Path) -> None:
    student, folder = whole
    with pytest.warns(UserWarning, match=r"mixed with seed=3, this run has seed=4.*will not repeat"):
        continued = resumed(tmp_path, folder / "step=7.ckpt", streaming(seed=4))
    assert any(not torch.equal(*pair) for pair in zip(continued.images, student.images[7:], strict=False))


def test_other_settings_begin_anew(
    whole: tuple[Student, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    student, folder = whole
    with caplog.at_level("INFO"):
        continued = resumed(tmp_path, folder / "step=7.ckpt", streaming(reuse=3))
    assert "others than in the checkpoint, so it begins anew" in caplog.text
    assert_anew(continued, student)


def test_resumed_from_a_link(tmp_path: Path) -> None:
    saving = every_step(tmp_path)
    saving.save_last = "link"
    student = fit(tmp_path, streaming(), saving, **{**KIND, "max_epochs": 3})
    assert (tmp_path / "last.ckpt").is_symlink()
    assert len(student.images) == 9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`")
        warnings.filterwarnings("ignore", r"(The '\w+' does not have many|`isinstance)")
        continued = resumed(tmp_path, tmp_path / "last.ckpt")
    assert len(continued.images) == 3


def test_a_checkpoint_that_is_only_tested_loads_no_store(
    whole: tuple[Student, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Tested(Failing):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            assert len(batch[0]) == 4

    checkpoint = tmp_path / "step=7.ckpt"
    checkpoint.write_bytes((whole[1] / "step=7.ckpt").read_bytes())
    for callback in (streaming(), streaming(save_state=False)):
        make_trainer(tmp_path, callback).test(Tested(), Resumable(), ckpt_path=checkpoint, weights_only=True)
    assert "fills anew" not in caplog.text


def test_a_second_fit_of_the_same_callback_starts_anew(whole: tuple[Student, Path], tmp_path: Path) -> None:
    student, folder = whole
    callback = streaming()
    resumed(tmp_path, folder / "step=7.ckpt", callback)
    again = fit(tmp_path, callback, enable_checkpointing=False, **KIND)
    assert len(again.images) == STEPS
    assert_continues(again, student, 0)


def test_a_checkpoint_of_the_batch_engine_lets_the_stream_begin(tmp_path: Path) -> None:
    folder = tmp_path / "batch"
    fit(folder, make_callback(mixer=MIXER, seed=3), every_step(folder), **KIND)

    student = resumed(tmp_path, folder / "step=6.ckpt")

    assert len(student.batches) == STEPS - 6
    assert all(mix is None or bool((mix.source_indices == -1).all()) for mix in student.mixes)
