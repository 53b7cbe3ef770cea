"""Bad input and suspicious input: what is said, and when."""

import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from supermix_pl import CutMix, FMix, FrozenTeacher, MixUp, ResizeMix, SaliencyMix, SuperMix, SuperMixCallback
from supermix_pl.engine import StreamEngine
from supermix_pl.mixing import FunctionMixer
from supermix_pl.trainer.student_classes import class_note
from supermix_pl.transforms import RandomCropFlip
from tests.integration.toys import (
    MIXER,
    NUM_CLASSES,
    IgnorantTeacher,
    StubbornTeacher,
    Student,
    Teacher,
    assert_extended,
    loader,
    loader_of,
    make_callback,
    make_trainer,
    natural_data,
)

IMAGES, LABELS = natural_data(4)


def bare_init(*arguments: Any, **options: Any) -> None:
    """Call the callback's own checks: the types are checked before them at run time, in tests only."""
    bare: Any = SuperMixCallback.__init__
    while hasattr(bare, "__wrapped__"):
        bare = bare.__wrapped__
    bare(object.__new__(SuperMixCallback), *arguments, **options)


def fit(folder: Path, *batches: Any, callback: SuperMixCallback | None = None, **options: Any) -> Student:
    student = Student()
    make_trainer(folder, callback or make_callback(**options)).fit(student, loader_of(batches))
    return student


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "append"}, "expected mode to be one of extend, replace, got 'append'"),
        ({"targets": "hard"}, "expected targets to be one of teacher, soft, teacher_soft, pairs, got 'hard'"),
        ({"log": "all"}, "expected log to be one of True, False, prog_bar, got 'all'"),
        ({"engine": "offline"}, "expected engine to be one of stream, batch, got 'offline'"),
        ({"every_n_batches": 0}, "expected every_n_batches to be an integer >= 1, got 0"),
        ({"start_epoch": -1}, "expected start_epoch to be an integer >= 0, got -1"),
        ({"start_epoch": 3, "stop_epoch": 3}, "expected stop_epoch to be an integer >= 4, got 3"),
        ({"seed": -1}, "expected seed to be an integer >= 0, got -1"),
        ({"save_state": "no"}, "expected save_state to be True or False, got 'no'"),
        ({"input_key": "x", "target_key": "x"}, "expected input_key and target_key to differ, got 'x' for both"),
        ({"probability": 1.5}, r"expected probability in \[0, 1\], got 1.5"),
        ({"probability": -0.5}, r"expected probability in \[0, 1\], got -0.5"),
        ({"probability": "0.5"}, r"expected probability in \[0, 1\], got '0.5'"),
        ({"before_start": "mixup", "targets": "soft"}, 'expected start_epoch >= 1 for before_start="mixup", got 0'),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_arguments_in_a_program_without_type_checks(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bare_init(Teacher(), MIXER, **arguments)


@pytest.mark.parametrize(
    ("teacher", "arguments", "message"),
    [
        (Teacher(), {"input_key": None}, "expected input_key as a position, a name, .*got None"),
        (Teacher(), {"target_key": True}, "expected target_key as a position, a name, .*got True"),
        (Teacher(), {"input_key": (0, 1)}, r"expected input_key as .* a pair \(get, set\) of callables, got \(0, 1\)"),
        (Teacher(), {"mixed_transform": "crop"}, "expected mixed_transform to take and give images, got 'crop'$"),
        (Teacher(), {"mixed_transform": RandomCropFlip}, r"got <class .*; give an instance, RandomCropFlip\(...\)"),
        (Teacher(), {"mixer": SuperMix.fast}, "expected mixer to be a SuperMix, MixUp, "),
        (Teacher(), {"mixer": Teacher()}, "expected mixer to be a SuperMix, MixUp, "),
        (
            Teacher(),
            {"mixer": FrozenTeacher(Teacher())},
            "expected mixer to be a SuperMix, MixUp, CutMix or other Mixer",
        ),
        (SuperMix(), {}, "expected the teacher first and the mixer second, got SuperMix"),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else "",
)
def test_arguments_of_another_kind(teacher: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        bare_init(teacher, **{"mixer": MIXER} | arguments)


def test_mixers_of_other_make(tmp_path: Path) -> None:
    class Network(torch.nn.Module):
        def forward(self, teacher: Any, images: Any, labels: Any = None, *, seed: Any) -> Any:
            return MIXER(teacher, images, labels, seed=seed)

    class Holder:
        def mix(self, teacher: Any, images: Any, labels: Any = None, *, seed: Any) -> Any:
            return MIXER(teacher, images, labels, seed=seed)

    def function(*arguments: Any, **names: Any) -> Any:
        return MIXER(*arguments, **names)

    for function_or_so in (Network(), Holder().mix, function):
        callback = make_callback(mixer=function_or_so)
        assert isinstance(callback.mixer, FunctionMixer)
        assert repr(function_or_so) in repr(callback.mixer)
        student = Student()
        make_trainer(tmp_path, callback).fit(student, loader(4))
        assert_extended(student, 0, IMAGES, LABELS)
        with pytest.raises(
            TypeError, match=r'expected SuperMix, .* for the stream engine, got FunctionMixer.*engine="batch"'
        ):
            make_callback(mixer=function_or_so, engine="stream")


@pytest.mark.parametrize(
    ("mixer", "targets"), [(SuperMix(), "soft"), (MixUp(num_classes=3), "teacher"), (MixUp(), "teacher_soft")]
)
def test_no_teacher_where_one_is_needed(mixer: Any, targets: Any) -> None:
    needing, advice = rf'{type(mixer).__name__} and targets="{targets}"', "take a mixer that needs none, such as MixUp"
    with pytest.raises(ValueError, match=f"expected a teacher for {needing}, got None; give one, or {advice}"):
        SuperMixCallback(None, mixer, targets=targets)


@pytest.mark.parametrize("mixer", [MixUp, CutMix, FMix, ResizeMix, SaliencyMix])
def test_mixers_that_need_no_teacher(mixer: Any) -> None:
    assert not SuperMixCallback(None, mixer(num_classes=3), targets="soft").mixer.needs_teacher


def test_blind_mixer_that_does_not_know_the_number_of_classes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected num_classes where there is no teacher to tell it"):
        fit(tmp_path, (IMAGES, LABELS), callback=SuperMixCallback(None, MixUp(), targets="soft"))


@pytest.mark.parametrize(
    ("batch", "keys", "message"),
    [
        ({"x": IMAGES, "y": LABELS}, (0, 1), r"field 0, got a dict with keys \['x', 'y'\]"),
        ({"x": IMAGES, "y": LABELS}, ("image", "y"), r"field 'image', got a dict with keys \['x', 'y'\]"),
        ({"x": [IMAGES], "y": LABELS}, ("x.1", "y"), r"field 'x\.1', got a list of 1 without 1"),
        ((IMAGES, LABELS), ("x", "y"), "field 'x', got a tuple of 2"),
        ((IMAGES, LABELS), (0, 2), "field 2, got a tuple of 2"),
        (IMAGES, (0, 1), "field 0, got a Tensor"),
    ],
)
def test_key_that_is_not_in_the_batch(tmp_path: Path, batch: Any, keys: Any, message: str) -> None:
    with pytest.raises(KeyError, match=f"expected the batch to have the {message}.*give input_key= and target_key="):
        fit(tmp_path, batch, input_key=keys[0], target_key=keys[1])


def test_keys_that_lead_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected one label an image, got 4 images and labels of shape \(3,\)"):
        fit(tmp_path, (IMAGES, LABELS[:3]))
    with pytest.raises(ValueError, match=r"labels of shape \(\).*look at input_key and target_key"):
        fit(tmp_path, (IMAGES, LABELS[0]))
    with pytest.raises(TypeError, match="expected a tensor behind target_key=1, got list"):
        fit(tmp_path, (IMAGES, ["a", "b", "c", "d"]))
    with pytest.raises(TypeError, match="expected a tensor behind input_key=0, got list"):
        fit(tmp_path, (list(IMAGES), LABELS))


@pytest.mark.parametrize("wrong", [NUM_CLASSES, -100])
@pytest.mark.parametrize("mode", ["extend", "replace"])
def test_label_that_the_teacher_does_not_know(tmp_path: Path, wrong: int, mode: str) -> None:
    labels = LABELS.clone()
    labels[2] = wrong
    with pytest.raises(ValueError, match=r"expected labels in \[0, 3\).*teacher and student must share the classes"):
        fit(tmp_path, (IMAGES, labels), mode=mode)


def test_label_that_the_teacher_does_not_know_in_a_later_batch(tmp_path: Path) -> None:
    student = Student()
    batches = loader_of([(IMAGES, LABELS), (IMAGES, LABELS + 1)])
    with pytest.raises(ValueError, match="got labels from 1 to 3"):
        make_trainer(tmp_path, make_callback()).fit(student, batches)
    assert len(student.batches) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_that_are_not_finite(tmp_path: Path, value: float) -> None:
    images = IMAGES.clone()
    images[1, 0, 3, 3] = value
    with pytest.raises(ValueError, match="expected finite images, got some with NaN or infinite pixels"):
        fit(tmp_path, (images, LABELS))


@pytest.mark.parametrize(
    ("labels", "targets"),
    [
        (torch.full((4, 3), 1 / 3), "teacher"),
        (torch.full((4, 3), 1 / 3), "pairs"),
        (torch.full((4, 5), 1 / 5), "soft"),
        (torch.tensor([0.0, 1.0, 0.0, 1.0]), "soft"),
        (torch.tensor([0.0, 1.0, 0.0, 1.0]), "teacher"),
    ],
)
def test_natural_labels_that_do_not_fit_the_format(tmp_path: Path, labels: torch.Tensor, targets: str) -> None:
    with pytest.raises(ValueError, match=rf'expected labels as \(b,\) integers.*for targets="{targets}"'):
        fit(tmp_path, (IMAGES, labels), targets=targets)


def test_bool_labels(tmp_path: Path) -> None:
    for mode in ("extend", "replace"):
        with pytest.raises(ValueError, match=r"got torch\.bool"):
            fit(tmp_path, (IMAGES, LABELS > 0), mode=mode)


class Constant(torch.nn.Module):
    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (torch.full((4, 3), float("nan")), "expected finite logits from the teacher, got NaN or infinity for every"),
        (torch.zeros(4, 3, 2, 2), r"floating point of shape \(b, n\), got torch.float32 of shape \(4, 3, 2, 2\)"),
        (torch.zeros(4, 3, dtype=torch.long), "got torch.int64"),
    ],
    ids=["NaN", "maps", "integers"],
)
def test_teacher_whose_logits_are_none(tmp_path: Path, logits: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, (IMAGES, LABELS), teacher=Constant(logits))


def caught(folder: Path, callback: SuperMixCallback, data: Any, student: Student | None = None, **options: Any) -> Any:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        make_trainer(folder, callback, **options).fit(student or Student(), data)
    return [str(warning.message) for warning in said]


def test_teacher_near_chance_is_reported_once(tmp_path: Path) -> None:
    callback = make_callback(IgnorantTeacher(), SuperMix(k=1, mask_size=4, max_steps=1))
    said = caught(tmp_path, callback, loader(600, 60), max_epochs=2)
    assert [message[:59] for message in said if "agrees with" in message] == [
        "The teacher agrees with 86 of the first 256 labels, no more"
    ]


def test_teacher_that_knows_is_not_reported(tmp_path: Path) -> None:
    assert not any("agrees with" in message for message in caught(tmp_path, make_callback(), loader(600, 60)))


class Shuffled(Teacher):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images).roll(1, dims=1)


def test_teacher_with_another_order_of_classes_is_reported(tmp_path: Path) -> None:
    said = caught(tmp_path, make_callback(Shuffled()), loader(300, 60))
    assert sum("The teacher agrees with 0 of the first 256 labels" in message for message in said) == 1


@pytest.mark.parametrize(
    ("options", "one_hot"),
    [
        ({"targets": "soft"}, True),
        ({"mixer": MixUp()}, False),
        ({"mixer": SuperMix(mask_size=4, classes="labels")}, False),
        ({"engine": StreamEngine(reuse=2)}, False),
        ({"engine": StreamEngine(), "mixer": MixUp()}, False),
    ],
    ids=["one-hot", "MixUp", "labels", "stream", "stream, MixUp"],
)
def test_teacher_with_another_order_of_classes_is_reported_however_it_is_asked(
    tmp_path: Path, options: dict[str, Any], one_hot: bool
) -> None:
    data = [(images, torch.eye(NUM_CLASSES)[labels] if one_hot else labels) for images, labels in loader(300, 30)]
    callback = make_callback(Shuffled(), **{"mixer": MIXER} | options)
    said = caught(tmp_path, callback, loader_of(data))
    assert sum("The teacher agrees with 0 of the first 256 labels" in message for message in said) == 1


@pytest.mark.filterwarnings("ignore:start_epoch=1 is not below")
def test_a_teacher_is_not_judged_before_it_supervises(tmp_path: Path) -> None:
    callback = make_callback(Shuffled(), start_epoch=1, before_start="mixup", targets="soft")
    make_trainer(tmp_path, callback, max_epochs=1).fit(Student(), loader(60, 30))
    assert callback.state_dict()["labels_seen"] == 0
    make_trainer(tmp_path, callback, max_epochs=2).fit(Student(), loader(60, 30))
    assert callback.state_dict()["labels_seen"] == 60


@pytest.mark.parametrize("mode", ["extend", "replace"])
@pytest.mark.parametrize("targets", ["teacher", "soft", "teacher_soft", "pairs"])
def test_the_judge_sees_the_natural_batch_where_setters_work_in_place(tmp_path: Path, mode: str, targets: str) -> None:
    def key(name: str) -> Any:
        return lambda batch: batch[name], lambda batch, value: batch.__setitem__(name, value)

    data = [{"x": images, "y": labels} for images, labels in loader(60, 30)]
    callback = make_callback(Shuffled(), mode=mode, targets=targets, input_key=key("x"), target_key=key("y"))
    student = Student(input_of=lambda batch: batch["x"], labels_of=lambda batch: batch["y"])
    make_trainer(tmp_path, callback).fit(student, loader_of(data))
    state = callback.state_dict()
    assert (state["labels_seen"], state["labels_hit"]) == (60, 0)


def test_labels_that_a_mixer_cannot_take_the_classes_from(tmp_path: Path) -> None:
    rows = torch.eye(NUM_CLASSES)[LABELS]
    message = r"expected labels as \(4,\) integers for {}.*got torch.float32 of shape \(4, 3\)"
    with pytest.raises(ValueError, match=message.format("MixUp")):
        fit(tmp_path, (IMAGES, rows), callback=SuperMixCallback(None, MixUp(num_classes=3), targets="soft"))
    with pytest.raises(ValueError, match=message.format("SuperMix")):
        fit(tmp_path, (IMAGES, rows), mixer=SuperMix(mask_size=4, classes="labels"), targets="soft")


def test_a_student_with_fewer_classes_than_the_teacher_is_told_of_them(tmp_path: Path) -> None:
    with pytest.raises(IndexError) as caught_error:
        make_trainer(tmp_path, make_callback(mode="replace")).fit(Student(num_classes=1), loader(8, 4))
    said = "the 3 classes of the teacher, and the trained module gives 1 logits."
    assert [said in note for note in caught_error.value.__notes__] == [True]


def test_a_loss_of_ones_own_too(tmp_path: Path) -> None:
    class Gathering(Student):
        def loss(self, batch: Any) -> Tensor:
            return -self.layer(batch[0].flatten(1)).gather(1, batch[1][:, None]).mean()

    with pytest.raises(RuntimeError, match="out of bounds") as caught_error:
        make_trainer(tmp_path, make_callback(mode="replace")).fit(Gathering(num_classes=1), loader(8, 4))
    said = "the 3 classes of the teacher, and the last linear layer of the trained module gives 1 values."
    assert [said in note for note in caught_error.value.__notes__] == [True]


def test_other_errors_get_no_such_note(tmp_path: Path) -> None:
    class Reaching(Student):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx) + torch.zeros(3)[batch_idx + 3]

    with pytest.raises(IndexError, match="out of bounds") as caught_error:
        make_trainer(tmp_path, make_callback()).fit(Reaching(), loader(8, 4))
    assert not getattr(caught_error.value, "__notes__", [])


def test_on_cuda_the_error_of_the_loss_comes_later_and_the_last_layer_speaks() -> None:
    error = RuntimeError("CUDA error: device-side assert triggered")
    module = torch.nn.Sequential(torch.nn.Linear(4, 9), torch.nn.Linear(9, 5), torch.nn.ReLU())
    note = class_note(error, module, 400)
    assert note is not None
    assert "the 400 classes of the teacher, and the last linear layer of the trained module gives 5 values" in note
    assert "FrozenTeacher(class_indices=...) picks them" in note
    assert class_note(error, module, 5) is None
    assert class_note(RuntimeError("out of memory"), module, 400) is None


MULTI_HOT = torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (MULTI_HOT, r"got row 1 with the sum 2: \[1, 1, 0\]; divide by the sum"),
        (torch.tensor([[-1.0, 2.0, 0.0]] * 4), r"got row 0 with the sum 1: \[-1, 2, 0\]"),
        (100 * torch.eye(3)[LABELS], "got row 0 with the sum 100"),
        (torch.full((4, 3), torch.nan), "got row 0 with the sum nan"),
    ],
)
@pytest.mark.parametrize("mode", ["extend", "replace"])
@pytest.mark.parametrize("targets", ["soft", "teacher_soft"])
def test_rows_that_are_no_probabilities(tmp_path: Path, rows: Tensor, said: str, mode: Any, targets: Any) -> None:
    with pytest.raises(ValueError, match="expected labels as probabilities.*" + said):
        fit(tmp_path, (IMAGES, rows), mode=mode, targets=targets)


def test_several_classes_an_image_are_not_judged(tmp_path: Path) -> None:
    callback = make_callback(mode="replace")
    make_trainer(tmp_path, callback).fit(Student(), loader_of([(IMAGES, MULTI_HOT)]))
    assert callback.state_dict()["labels_seen"] == 0


def test_teacher_whose_logits_have_no_gradient(tmp_path: Path) -> None:
    class Closed(Teacher):
        @torch.no_grad()
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images)

    for mixer in (MIXER, SuperMix.fast(mask_size=4)):
        with pytest.raises(ValueError, match=r"expected the teacher's logits to have a gradient.*torch.no_grad"):
            fit(tmp_path, (IMAGES, LABELS), teacher=FrozenTeacher(Closed(), fold=False), mixer=mixer)


def test_batch_without_a_solved_set_is_reported_once(tmp_path: Path) -> None:
    callback = make_callback(StubbornTeacher(), SuperMix(mask_size=4, max_steps=2, on_unsolved="source"))
    student = Student(num_classes=NUM_CLASSES + 1)
    said = caught(tmp_path, callback, loader(9, 3), student)
    reports = [message for message in said if message.startswith("None of the 3 sets")]
    assert len(reports) == 1
    assert 'max_steps=2: the mixes are treated as on_unsolved="source" says' in reports[0]
    for images, labels in zip(student.images, student.labels, strict=True):
        assert torch.equal(images[3:], images[:3])  # what "source" says: the natural images come back
        assert torch.equal(labels[3:], labels[:3])


def test_batch_with_solved_sets_is_not_reported(tmp_path: Path) -> None:
    callback = make_callback(StubbornTeacher(), SuperMix(mask_size=4, max_steps=2))
    said = caught(tmp_path, callback, loader(4, 4), Student(num_classes=NUM_CLASSES + 1))
    assert not any("None of the" in message for message in said)  # the last set has two images of one class


def test_mixup_is_not_reported(tmp_path: Path) -> None:
    callback = make_callback(StubbornTeacher(), MixUp())
    said = caught(tmp_path, callback, loader(3, 3), Student(num_classes=NUM_CLASSES + 1))
    assert not any("None of the" in message for message in said)


UNCHECKED = """
    import random
    import sys
    import warnings
    import torch
    from supermix_pl import FrozenTeacher, SuperMix, SuperMixCallback
    from tests.integration.toys import *

    images, labels = natural_data(4)

    def message(*batch, **options):
        try:
            arguments = {"teacher": Teacher(), "mixer": MIXER, "engine": "batch", **options}
            make_trainer(sys.argv[1], SuperMixCallback(**arguments)).fit(Student(), loader_of([batch]))
        except Exception as error:
            print(f"MESSAGE {type(error).__name__}: {error}")
        else:
            print("MESSAGE none")

    class ThreeRows(torch.nn.Module):
        def forward(self, images):
            return torch.zeros(3, 3)

    message((255 * images).byte(), labels)
    message(images[0], labels)
    message(images.flatten(1), labels)
    message(images, labels, teacher=lambda: "wrn_16_2")
    message(images, labels, teacher="wrn_16_2")
    message(images, labels, mixer=SuperMix)
    message(images, labels, teacher=Teacher().state_dict())
    message(images, labels, engine=3)
    message(images, labels, teacher=torch.nn.Identity())
    message(images, labels, teacher=ThreeRows())
    message(images, labels, teacher=FrozenTeacher(Teacher(), mean=[0.5] * 2, std=[0.5] * 2))
    message(images, labels, mixed_transform=lambda images: images.numpy())
    message(images, labels)

    random.seed(3)
    state = random.getstate()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        callback = SuperMixCallback(Teacher(), MIXER, engine="batch")
        make_trainer(sys.argv[1], callback, max_epochs=3).fit(Student(), loader(9))
    said = sum("a batch of 1 images is smaller than k=2" in str(warning.message) for warning in caught)
    print(f"MESSAGE said {said}, generator untouched {random.getstate() == state}")
"""


@pytest.mark.slow
def test_in_a_program_without_run_time_type_checks(tmp_path: Path) -> None:
    """In this one jaxtyping is faster, with a message of its own, repeats warnings and advances Python's generator."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(UNCHECKED), str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]
    got = [line.removeprefix("MESSAGE ") for line in done.stdout.splitlines() if line.startswith("MESSAGE ")]
    expected = [
        "ValueError: expected floating point images, got torch.uint8",
        "ValueError: expected one label an image, got 3 images",
        "ValueError: expected images of shape (b, c, h, w) with b >= 1, got (4, 192)",
        "TypeError: expected the teacher to be an nn.Module, got str",
        "FileNotFoundError: expected teacher='wrn_16_2' to be the checkpoint of an earlier run of the same module",
        "TypeError: expected mixer to be a SuperMix, MixUp, CutMix or other Mixer, got <class",
        "TypeError: expected teacher to be a classifier, got a OrderedDict of 7: load weights into their network",
        'TypeError: expected engine to be "batch", "stream" or an Engine, got 3',
        "ValueError: the teacher failed on images of shape (4, 3, 8, 8): expected the teacher's logits to be floating",
        "ValueError: expected the teacher to give 4 rows of logits, got 3",
        "ValueError: the teacher failed on images of shape (4, 3, 8, 8): expected images with 2 channels",
        "ValueError: expected mixed_transform to give 4 images (b, c, h, w), got ndarray",
        "none",
        "said 1, generator untouched True",
    ]
    assert len(got) == len(expected)
    for message, start in zip(got, expected, strict=True):
        assert message.startswith(start)
