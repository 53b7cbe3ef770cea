"""From configs to objects: fixed mixes and external images in training, and what is refused."""

import functools
import inspect
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from supermix_pl import BatchEngine, FrozenTeacher, MixedBatch, MixUp, MovingAverage, StreamEngine, SuperMix
from supermix_pl.experiments.building import build_mixes, build_mixing, build_task, build_teacher, has_teacher
from supermix_pl.experiments.checks import check_choices, check_settings
from supermix_pl.experiments.data import ImageDataModule, Shapes
from supermix_pl.experiments.generate import list_devices
from supermix_pl.experiments.generate import main as generate_main
from supermix_pl.experiments.mixes import FixedMixes, MisplacedMixes, Plan, ReplayEngine, generate, generation
from supermix_pl.experiments.networks import resnet8
from supermix_pl.experiments.shared.runs.identity import teacher_name
from supermix_pl.experiments.teachers import average_student, untrained_teacher
from supermix_pl.experiments.train import train
from supermix_pl.transforms import RandomCropFlip
from tests.composing import compose

MIXER = ["mixer=supermix", "mixer.max_steps=2"]
FIXED = ["mixes=fixed", "mixes.batch_size=4"]
SMALL = [
    *("network=resnet8", "num_mixes=12"),
    *("data.train_size=10", "data.test_size=6", "data.batch_size=4", "data.eval_batch_size=6"),
    *("trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=2", "trainer.num_sanity_val_steps=0"),
    *("trainer.log_every_n_steps=1", "trainer.enable_progress_bar=false", "callbacks=none", "logger=none"),
]


def paths(folder: Path) -> list[str]:
    return [f"paths.root_dir={folder}", f"paths.cache_dir={folder}/cache", f"paths.output_dir={folder}/run"]


def composed(folder: Path, *overrides: str, teacher: str = "untrained") -> DictConfig:
    return small(f"teacher={teacher}", *paths(folder), *overrides)


def small(*overrides: str) -> DictConfig:
    return compose("train", [*SMALL, *overrides])


def shapes(**options: Any) -> Shapes:
    settings: dict[str, Any] = {"train_size": 10, "test_size": 6, "batch_size": 4, **options}
    data = Shapes(**settings)
    data.setup()
    return data


def mixing_of(config: DictConfig, data: ImageDataModule) -> Any:
    mixes = build_mixes(config, data)
    return build_mixing(config, build_teacher(config, data), data, mixes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = shapes()
    plan = Plan(size=12, batch_size=4)
    path = tmp_path_factory.mktemp("mixes")
    generate(path, data, untrained_teacher(data, network=resnet8), SuperMix(max_steps=2), plan)
    return path


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("matmul_precision=low", "expected matmul_precision to be one of highest, high, medium, got 'low'"),
        ("mixing.mode=x", "expected mode to be one of extend, replace, got 'x'"),
        ("task.ce_weight=-1", "expected ce_weight >= 0, got -1"),
        ("optimizer.lr=-1", r"expected settings that torch.optim.SGD takes for optimizer, got: Invalid learning rate"),
        (
            "scheduler.warmup=2",
            r"expected settings that .* takes for scheduler, got: expected warmup in \[0, 1\), got 2",
        ),
    ],
)
def test_bad_values_end_a_run_before_its_mixes_are_made(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        train(composed(tmp_path, *MIXER, *FIXED, override))
    assert not (tmp_path / "cache" / "mixes").exists()


@pytest.mark.parametrize("protocol", ["table1", "imagenet"])
def test_a_protocol_that_leaves_its_budget_to_a_pair_asks_for_one(protocol: str) -> None:
    with pytest.raises(ValueError, match=r"expected a value for .*, which this protocol leaves to the pair, got none"):
        check_settings(small(f"protocol={protocol}"))


def test_a_name_of_its_own_for_a_protocol_needs_no_budget() -> None:
    check_settings(small("protocol.name=mine", *paths(Path())))


def test_schedules_are_tried_as_they_are_called() -> None:
    cycle = ("~scheduler.warmup", "+scheduler.max_lr=0.1", "scheduler._target_=torch.optim.lr_scheduler.OneCycleLR")
    check_settings(small(*paths(Path()), *cycle))
    annealing = (
        "~scheduler.warmup",
        "+scheduler.T_max=5",
        "scheduler._target_=torch.optim.lr_scheduler.CosineAnnealingLR",
    )
    with pytest.raises(ValueError, match=r"takes for scheduler, got: .*unexpected keyword argument 'total_steps'"):
        check_settings(small(*paths(Path()), *annealing))


def test_what_the_task_alone_can_tell_ends_a_run_before_its_mixes_are_made(tmp_path: Path) -> None:
    config = composed(tmp_path, *MIXER, *FIXED, "task=distillation", "task.temperature=-1")
    with pytest.raises(Exception, match="expected temperature > 0"):
        train(config)
    assert not (tmp_path / "cache" / "mixes").exists()


def test_whether_mixes_have_to_be_made_is_nothing_to_the_global_generators(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    mixing_of(composed(tmp_path, *MIXER, *FIXED), shapes())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_pair_is_taken_off_with_a_tilde() -> None:
    config = small("experiment=table2", "~pair", "teacher=fitted", "method=kd")
    assert config.pair.name is None
    assert config.data._target_.endswith("Shapes")  # the pair had chosen CIFAR-100


def test_a_run_on_fixed_mixes_that_it_makes_first_and_finds_again(tmp_path: Path) -> None:
    metrics = train(composed(tmp_path, *MIXER, *FIXED, "task.separate_forwards=true"))
    (made,) = (tmp_path / "cache" / "mixes").iterdir()
    mixes = FixedMixes(made)
    assert len(mixes) == 12
    assert metrics["supermix/mixes"] == 20  # one beside each natural image
    assert metrics["student_samples"] == 40
    assert metrics["supermix/teacher_forwards_per_mix"] == 1
    times = {path: path.stat().st_mtime_ns for path in made.glob("mixes-*")}
    assert mixing_of(composed(tmp_path, *MIXER, *FIXED), shapes()) is not None
    assert times == {path: path.stat().st_mtime_ns for path in made.glob("mixes-*")}
    assert list((tmp_path / "cache" / "mixes").iterdir()) == [made]


def test_fixed_mixes_need_no_mixer(tmp_path: Path, folder: Path) -> None:
    mixing = mixing_of(composed(tmp_path, "mixes=folder", f"mixes.folder={folder}"), shapes())
    assert mixing is not None
    engine = mixing._rewriter.engine
    assert isinstance(engine, ReplayEngine)
    images = torch.zeros(4, 3, 32, 32)
    mix = engine.mix(mixing.mixer, mixing.teacher, images, None, seed=(0, 0, 0, 0))
    assert mix.teacher_logits is not None
    assert torch.equal(mixing.teacher(mix.images), mix.teacher_logits)


@pytest.mark.parametrize(
    ("data", "overrides", "message"),
    [
        ({"size": 16}, [], r"expected mixes with image_size \[16, 16\], as the data have, got \[32, 32\]"),
        ({}, [*MIXER, "mixer.k=3"], r"expected the mixer that made .*there SuperMix\(k=2, now SuperMix\(k=3\)"),
        ({}, ["mixer=mixup"], r"expected the mixer that made .*there SuperMix\(.*now MixUp\("),
    ],
    ids=["size", "k", "mixer"],
)
def test_mixes_that_do_not_fit_are_refused(
    tmp_path: Path, folder: Path, data: dict[str, Any], overrides: list[str], message: str
) -> None:
    config = composed(tmp_path, "mixes=folder", f"mixes.folder={folder}", *overrides)
    with pytest.raises(ValueError, match=message):
        build_mixes(config, shapes(**data))


def test_mixes_of_the_chosen_mixer_are_taken(tmp_path: Path, folder: Path) -> None:
    mixing = mixing_of(composed(tmp_path, "mixes=folder", f"mixes.folder={folder}", *MIXER), shapes())
    assert mixing.mixer == SuperMix(max_steps=2)


@pytest.mark.parametrize("train_size", [10, 20])
def test_mixes_of_other_images_are_told(
    tmp_path: Path, folder: Path, train_size: int, caplog: pytest.LogCaptureFixture
) -> None:
    config = composed(tmp_path, "mixes=folder", f"mixes.folder={folder}")
    build_mixes(config, shapes(train_size=train_size))
    assert ("were made of 10 training images, and the data have 20" in caplog.text) == (train_size == 20)


def test_mixes_of_other_classes_are_refused(tmp_path: Path, folder: Path) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "copied"))
    about = json.loads((copied / "about.json").read_text())
    (copied / "about.json").write_text(json.dumps(about | {"num_classes": 100}))
    with pytest.raises(ValueError, match="expected mixes with num_classes 10, as the data have, got 100"):
        build_mixes(composed(tmp_path, "mixes=folder", f"mixes.folder={copied}"), shapes())


LEARNS = ["task=distillation"]
FOLDER = ["mixes=folder", "mixes.folder=somewhere"]
EXTERNAL = ["mixes=external", "mixes.folder=somewhere"]
NO_EMA = (
    "expected a trained teacher for mixes that are made before, external images, distillation and CRD, got teacher=ema"
)


@pytest.mark.parametrize(
    ("teacher", "overrides", "message"),
    [
        ("none", FOLDER, "expected a teacher to label the images of mixes=folder, got teacher=none"),
        ("none", EXTERNAL, "expected a teacher to label the images of mixes=external, got teacher=none"),
        ("none", LEARNS, "expected a teacher for .*Distillation, got teacher=none"),
        ("untrained", FIXED, "expected a mixer to make the mixes of mixes=fixed, got mixer=none"),
        ("untrained", [*MIXER, *EXTERNAL], "expected mixer=none with mixes=external.*got supermix_pl.SuperMix"),
        ("untrained", [*MIXER, "task=contrastive"], "expected natural images alone for task=contrastive, got mixes"),
        ("untrained", ["task=distillation", "mixing.distillation_weight=0.9"], "choose one of the two"),
        ("untrained", [*EXTERNAL, "task=contrastive"], "expected natural images alone for task=contrastive, got mixes"),
        ("untrained", [*FOLDER, "engine=stream"], "expected engine=auto or batch with mixes=folder"),
        ("untrained", ["task=contrastive", "compile=true"], "expected compile=false for task=contrastive"),
        ("untrained", [*LEARNS, "task.features=layer3"], "expected features of both student and teacher"),
        ("untrained", [*MIXER, "teacher.features=layer3"], "got task.features=None and teacher.features=layer3"),
        (
            "untrained",
            [*LEARNS, "task.features=layer3", "teacher.features=layer3", "compile=true"],
            "expected compile=false for task=contrastive and task.features",
        ),
        (
            "mean",
            [*LEARNS, "teacher@teacher.teachers.first=ema"],
            "expected trained teachers to average, got ema as teacher.teachers.first",
        ),
        ("mean", [*LEARNS, "compile=true"], "got teacher.teachers.first.compile=True: leave it out"),
        ("mean", [*LEARNS, "teacher.teachers.second.features=layer3"], "got teacher.teachers.second.features=layer3"),
        ("ema", LEARNS, NO_EMA),
        ("ema", [*MIXER, *FIXED], NO_EMA),
        (
            "checkpoint",
            [*LEARNS, "teacher.checkpoint=nowhere.pth"],
            "expected a file .* in teacher.checkpoint, got now",
        ),
    ],
)
def test_choices_that_do_not_go_together(tmp_path: Path, teacher: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_choices(composed(tmp_path, *overrides, teacher=teacher))


@pytest.mark.parametrize("chosen", ["experiment=few_images", "pair=resnet56-resnet20"])
def test_what_an_experiment_chooses_for_a_trained_teacher_does_not_count_for_others(
    tmp_path: Path, chosen: str
) -> None:
    given = [chosen, "data=shapes", "method=callback_distillation", *paths(tmp_path)]
    config = compose("train", [*given, "teacher=ema", "teacher.decay=0.9"])
    assert repr(build_teacher(config, shapes())) == repr(MovingAverage(0.9))
    assert config.teacher.network is None
    assert teacher_name(OmegaConf.to_container(config.teacher)) is None
    config = compose("train", [*given, "teacher=none"])
    assert not has_teacher(config)
    assert config.teacher.network is None
    assert teacher_name(OmegaConf.to_container(config.teacher)) is None
    with pytest.raises(ValueError, match="expected a teacher"):
        check_settings(config)


def test_an_average_has_the_arguments_of_its_class() -> None:
    own, of_class = (inspect.signature(each).parameters for each in (average_student, MovingAverage))
    assert {name: own[name].default for name in own if name != "network"} == {
        name: of_class[name].default for name in of_class
    }
    given = {"decay": 0.5, "dtype": "bfloat16", "features": "layer3"}
    assert repr(average_student(**given)) == repr(MovingAverage(**given))


def pictures(folder: Path) -> Path:
    folder.mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.mark.slow
def test_a_run_on_external_images(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pictures")
    metrics = train(composed(tmp_path, "task=distillation", "mixes=external", f"mixes.folder={folder}"))
    assert metrics["supermix/mixes"] == 20
    assert metrics["supermix/teacher_forwards_per_mix"] == 1


def command(module: str, folder: Path, *overrides: str) -> str:
    arguments = [sys.executable, "-m", f"supermix_pl.experiments.{module}", *SMALL, *MIXER, "teacher=untrained"]
    arguments += [f"paths.cache_dir={folder}/cache", f"hydra.run.dir={module}", *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return done.stdout + done.stderr if done.returncode == 0 else f"failed: {done.stderr}"


def test_a_process_whose_first_one_has_ended_makes_no_mixes(monkeypatch: pytest.MonkeyPatch) -> None:
    program = sys.modules[generate_main.__module__]
    monkeypatch.setattr(program, "_prepare", None)
    monkeypatch.setattr(program, "parent_process", lambda: SimpleNamespace(is_alive=lambda: False))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a shell's background
    try:
        program._help(0, OmegaConf.create(), [])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # by it torch ends a helper
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_generate_then_train(tmp_path: Path) -> None:
    said = command("generate", tmp_path, "mixes.folder=mixes", *FIXED[1:], "trainer.devices=2")
    assert "12 mixes in mixes, solved on their exact pixels:" in said
    assert "12 mixes of 32x32 take about 4.05e-05 GB in 3 files in mixes; 0 are there" in said
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "mixes").glob("mixes-*")}
    assert "a second" not in command("generate", tmp_path, "mixes.folder=mixes", *FIXED[1:])
    assert before == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "mixes").glob("mixes-*")}
    assert "failed" not in command("train", tmp_path, "mixes=folder", "mixes.folder=mixes")
    assert json.loads((tmp_path / "train" / "metrics.json").read_text())["supermix/mixes"] == 20
    assert "12 mixes in" in command("generate", tmp_path)  # in the cache
    said = command("train", tmp_path, "mixes=fixed", "hydra.run.dir=fixed")
    assert "12 mixes in" in said
    assert "a second" not in said


def test_a_full_disk_ends_a_generation_in_a_line_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed(tmp_path, *MIXER, *FIXED, f"mixes.folder={tmp_path}/mixes")
    write, written = generation.write_shard, []

    def on_full_disk(path: Path, mixes: Any) -> None:
        """Let no file become as large as a shard from the second on."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        if written:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        try:
            write(path, mixes)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        written.append(path)

    monkeypatch.setattr(generation, "write_shard", on_full_disk)
    with pytest.raises(SystemExit, match=r"^supermix-generate: error: expected room .* too large; .* the same command"):
        generate_main.__wrapped__(config)
    assert list((tmp_path / "mixes").glob("mixes-*.safetensors")) == written
    assert not list((tmp_path / "mixes").glob("*.part"))
    before = written[0].stat().st_mtime_ns
    monkeypatch.setattr(generation, "write_shard", write)
    generate_main.__wrapped__(config)
    assert len(FixedMixes(tmp_path / "mixes")) == 12
    assert written[0].stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("gpus", "devices", "found"),
    [
        (0, "auto", ["cpu"]),
        (0, 3, ["cpu"] * 3),
        (2, "auto", ["cuda:0", "cuda:1"]),
        (3, 2, ["cuda:0", "cuda:1"]),
        (3, "[2]", ["cuda:2"]),
        (1, 2, None),
        (0, -1, None),
    ],
)
def test_a_process_for_each_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, devices: int | str, found: list[str] | None
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    config = composed(tmp_path, "trainer.accelerator=auto", f"trainer.devices={devices}")
    if found is None:
        with pytest.raises(ValueError, match=f"expected trainer.devices that there are, got {devices}"):
            list_devices(config)
    else:
        assert [str(device) for device in list_devices(config)] == found


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["untrained", "none"])
def test_generating_needs_a_teacher_and_no_choice_of_a_mixer(tmp_path: Path, teacher: str) -> None:
    overrides = [
        "mixes.folder=mixes",
        "network=resnet8",
        "data.train_size=10",
        "data.test_size=6",
        f"teacher={teacher}",
    ]
    overrides += ["num_mixes=4", "mixes.batch_size=4"]
    arguments = [sys.executable, "-m", "supermix_pl.experiments.generate", *overrides]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    if teacher == "none":
        assert "expected a teacher" in done.stderr
        assert not (tmp_path / "mixes").exists()
    else:
        about = FixedMixes(tmp_path / "mixes").about
        assert (about["mixer"], about["views"]) == (repr(SuperMix.fast()), repr(RandomCropFlip()))


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_memory_format_reaches_the_teachers_passes_and_not_its_module(tmp_path: Path, channels_last: bool) -> None:
    teacher = build_teacher(composed(tmp_path, *MIXER, f"channels_last={channels_last}"), shapes())
    assert isinstance(teacher, FrozenTeacher)
    assert teacher.channels_last == channels_last
    weights = [weight for weight in teacher.module.parameters() if weight.ndim == 4]
    assert all(weight.is_contiguous() for weight in weights)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_compile_is_for_student_and_teacher(tmp_path: Path, on_gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch, "compile", lambda call, **options: asked.append(options) or call)
    monkeypatch.setattr("supermix_pl.experiments.building.works_on_gpu", lambda config: on_gpu)
    for compiled in (False, True):
        config = composed(tmp_path, *LEARNS, f"compile={compiled}".lower())
        task = build_task(config, untrained_teacher(shapes(), network=resnet8), shapes())
        assert config.teacher.compile == compiled
        assert (task.network._compiled_call_impl is not None) == compiled
        assert task.network.state_dict().keys() == resnet8(num_classes=8).state_dict().keys()
    assert asked == [{"dynamic": False, "mode": "reduce-overhead" if on_gpu else None}]


@pytest.mark.slow
def test_a_compiled_run_is_that_of_an_eager_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced, without the minutes that making code of the trace takes on a CPU."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    weights = {}
    for compiled in ("false", "true"):
        folder = tmp_path / compiled
        settings = [f"compile={compiled}", "teacher.compile=false", "trainer.max_epochs=1"]
        train(composed(folder, *LEARNS, *MIXER, *settings))
        weights[compiled] = torch.load(folder / "run" / "weights.pth", weights_only=True)["model"]
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    for name, value in weights["false"].items():
        torch.testing.assert_close(weights["true"][name], value, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(
    ("mixer", "engine"), [("supermix_fast", StreamEngine), ("half", StreamEngine), ("supermix", StreamEngine)]
)
def test_the_engine_goes_by_the_mixer(tmp_path: Path, mixer: str, engine: type) -> None:
    mixing = mixing_of(composed(tmp_path, f"mixer={mixer}", "engine.reuse=5"), shapes())
    assert type(mixing._engine) is engine
    assert mixing._engine._settings.reuse == 5


def test_mixers_that_no_stream_knows_are_worked_on_batch_by_batch(tmp_path: Path) -> None:
    config = composed(tmp_path)
    config.mixer = {"_target_": f"{__name__}.own_mixer", "_partial_": True}
    assert type(mixing_of(config, shapes())._engine) is BatchEngine


def own_mixer(teacher: Any, images: torch.Tensor, labels: Any = None, *, seed: Any) -> MixedBatch:
    return MixUp()(teacher, images, labels, seed=seed)


@pytest.mark.parametrize("mixer", ["mixup", "cutmix", "half"])
def test_mixers_without_a_teacher_are_told_the_classes(tmp_path: Path, mixer: str) -> None:
    config = composed(tmp_path, f"mixer={mixer}", "mixing.targets=soft", teacher="none")
    mixing = mixing_of(config, shapes())
    assert mixing.mixer.num_classes == 10
    assert mixing.teacher is None


@pytest.mark.parametrize("task", ["classification", "distillation"])
def test_distillation_has_every_row_labelled(tmp_path: Path, task: str) -> None:
    mixing = mixing_of(composed(tmp_path, *MIXER, f"task={task}"), shapes())
    assert mixing._rewriter.label_natural == (task == "distillation")


def test_fixed_mixes_are_solved_under_what_the_training_shows(tmp_path: Path) -> None:
    fast = ["mixer=supermix_fast", "mixer.max_steps=2"]
    mixing = mixing_of(composed(tmp_path, *fast, *FIXED, "+mixing.mixed_transform.padding=3"), shapes())
    (made,) = (tmp_path / "cache" / "mixes").iterdir()
    about = FixedMixes(made).about
    assert about["views"] == repr(RandomCropFlip(padding=3)) == repr(mixing._rewriter.mixed_transform)
    assert about["mixer"] == repr(SuperMix.fast(max_steps=2))
    again = composed(tmp_path, *fast, "mixes=folder", f"mixes.folder={made}")
    with pytest.raises(
        ValueError, match=r"expected the views .*there RandomCropFlip\(padding=3.*now RandomCropFlip\(padding=None"
    ):
        build_mixes(again, shapes())
    OmegaConf.update(again, "mixing.mixed_transform.padding", 3, force_add=True)
    assert mixing_of(again, shapes()) is not None


def test_a_control_has_the_mixes_of_its_subject(tmp_path: Path) -> None:
    choices = (FIXED, ["mixes=misplaced", *FIXED[1:]])
    subject, control = (mixing_of(composed(tmp_path, *MIXER, *choice), shapes()) for choice in choices)
    assert len(list((tmp_path / "cache" / "mixes").iterdir())) == 1
    kinds = [type(mixing._engine._images) for mixing in (subject, control)]
    assert kinds == [FixedMixes, MisplacedMixes]


def test_no_transform_is_none_for_a_stream_too(tmp_path: Path) -> None:
    config = composed(tmp_path, *MIXER, "engine=stream", "engine.reuse=2")
    assert isinstance(mixing_of(config, shapes())._rewriter.mixed_transform, RandomCropFlip)
    config.mixing.mixed_transform = None
    assert mixing_of(config, shapes())._rewriter.mixed_transform is None


def test_a_streams_own_transform_stands_where_it_is_named(tmp_path: Path) -> None:
    config = composed(tmp_path, *MIXER, "engine=stream", "engine.reuse=2")
    config.mixing.mixed_transform = None
    own = {"_target_": "supermix_pl.transforms.RandomCropFlip", "padding": 7}
    config.engine.default_transform = own
    assert mixing_of(config, shapes())._rewriter.mixed_transform.padding == 7


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["experiment=table1", "optimizer=adamw"],
            "got optimizer.nesterov, which torch.optim.AdamW does not take.* take off with ~optimizer.nesterov what ",
        ),
        (["scheduler=cosine", "+scheduler.gama=0.5"], "got scheduler.gama, which .*cosine does not take"),
        (["+optimizer.a=1", "+optimizer.b=2"], "got optimizer.a, optimizer.b, which torch.optim.SGD does not take"),
    ],
)
def test_settings_that_the_optimiser_or_the_schedule_lacks_end_a_run_at_once(
    overrides: list[str], message: str
) -> None:
    config = compose("train", ["paths.root_dir=root", "paths.output_dir=run", *overrides])
    with pytest.raises(ValueError, match=message):
        check_settings(config)


@pytest.mark.parametrize("scheduler", ["constant", "cosine", "linear", "multistep"])
@pytest.mark.parametrize(
    "protocol",
    ["table1", *(pytest.param(name, marks=pytest.mark.slow) for name in ("equal", "table2", "table5", "repdistiller"))],
)
def test_every_schedule_goes_with_every_protocol(protocol: str, scheduler: str) -> None:
    chosen = f"experiment={protocol}" if protocol.startswith("table") else f"protocol={protocol}"
    given = [chosen, f"scheduler={scheduler}", "paths.root_dir=root", "paths.output_dir=run"]
    config = compose("train", given)
    check_settings(config)
    assert ("milestones" in config.scheduler) == (scheduler == "multistep")


def test_a_moving_average_teaches_from_an_epoch_on(tmp_path: Path) -> None:
    config = composed(tmp_path, *MIXER, "mixing.start_epoch=1", teacher="ema")
    metrics = train(config)
    assert metrics["supermix/mixes"] == 10  # of the second epoch alone
    assert "teacher/accuracy" not in metrics
