"""A config is refused before time is spent, by the name that stands on the command line."""

import errno
from pathlib import Path

import fsspec
import pytest
from omegaconf import DictConfig

from supermix_pl.experiments import cli
from supermix_pl.experiments.building import build_data
from supermix_pl.experiments.checks import (
    SettingsError,
    check_choices,
    check_settings,
    check_tested,
    ending_in_a_line,
    named_errors,
)
from tests.composing import compose
from tests.experiments.test_building import paths, small
from tests.experiments.test_labels import LEADING

TEACHER = ("teacher=checkpoint", "teacher.checkpoint=weights.pth")
METHODS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "method").glob("*.yaml"))


def composed(*overrides: str) -> DictConfig:
    return small(*paths(Path()), *overrides)


@pytest.mark.parametrize(
    "method",
    # tests/experiments/test_labels trains the leading ones, which checks them too
    [pytest.param(name, marks=[pytest.mark.slow] * (name in LEADING)) for name in METHODS],
)
def test_nothing_is_wrong_with_what_we_bring(method: str) -> None:
    config = composed(f"method={method}", "teacher=untrained")
    check_settings(config)
    check_choices(config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mixer.k=two", "expected k to be an integer >= 1, got 'two'"),
        ("mixer.alpha=-1", "expected alpha > 0, got -1"),
        ("mixer.lambda_s=[1]", "lambda_s"),
        ("engine.reuse=0", "expected reuse > 0, got 0"),
        ("engine.sources=all", "expected engine.sources to be one of training, got 'all'"),
        ("mixing.mode=x", "expected mode to be one of extend, replace, got 'x'"),
        ("mixing.every_n_batches=0", "expected every_n_batches to be an integer >= 1, got 0"),
        ("trainer.max_epochs=three", "expected trainer.max_epochs as an integer or null, got 'three'"),
        ("trainer.precision=fp12", "expected trainer.precision as Literal"),
        ("optimizer.lr=fast", "expected optimizer.lr as a number"),
        ("data.batch_size=many", "expected data.batch_size as an integer, got 'many'"),
        ("data.images_per_class=1.5", "expected data.images_per_class as an integer or null, got 1.5"),
        ("data.augment=maybe", "expected data.augment as"),
        ("teacher.fold=maybe", "expected teacher.fold as true or false, got 'maybe'"),
        ("trainer.limit_test_batches=0", "expected trainer.limit_test_batches above 0, got 0"),
        ("seed=x", "expected seed to be an integer >= 0, got 'x'"),
    ],
)
def test_wrong_values_are_named(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_settings(composed("mixer=supermix_fast", *TEACHER, override))


def test_settings_of_another_choice_are_named_with_how_to_take_them_off() -> None:
    given = ["experiment=quickstart", "data=image_folder", "data.folder=x", "teacher=untrained", *paths(Path())]
    config = compose("train", [*given, "+mixer.lamda_s=3"])
    message = r"got data\.train_size, which .*ImageFolder does not take; .*"
    taken_off = "~data.train_size ~teacher.epochs ~teacher.batch_size ~mixer.lamda_s"
    with pytest.raises(ValueError, match=message + taken_off):
        check_settings(config)


def test_modules_that_leave_no_results_are_refused() -> None:
    module = {"_target_": "pytorch_lightning.LightningModule"}
    config = composed("teacher=untrained")
    with pytest.raises(ValueError, match=r"of a subclass of .*Classification, got pytorch_lightning.LightningModule"):
        check_choices(DictConfig({**config, "task": module}))
    with pytest.raises(TypeError, match=r"of a subclass of .*ImageDataModule, got pytorch_lightning.LightningModule"):
        build_data(DictConfig({"data": module}))


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match=r"expected paths\.cache_dir to be a folder .* and .*file takes no folder"):
        check_settings(composed("mixer=supermix_fast", *TEACHER, f"paths.cache_dir={file / 'cache'}"))


def test_nothing_to_test_on_is_told_before_the_training() -> None:
    given = ["data=shapes", "data.train_size=20", "data.test_size=20", "data.eval_batch_size=10"]
    for share in ("0.5", "1", "1.0", "null"):
        config = composed(*given, f"trainer.limit_test_batches={share}")
        check_tested(config, build_data(config))
    config = composed(*given, "trainer.limit_test_batches=0.4")
    with pytest.raises(
        ValueError, match=r"expected trainer\.limit_test_batches to leave one of 2 test batches, got 0\.4"
    ):
        check_tested(config, build_data(config))


def test_masks_need_a_teacher() -> None:
    with pytest.raises(ValueError, match="expected a teacher for SuperMix"):
        check_settings(composed("mixer=supermix_fast"))


@pytest.mark.parametrize("engine", ["auto", "stream"])
def test_sources_are_named(engine: str) -> None:
    check_settings(composed("mixer=supermix_fast", *TEACHER, f"engine={engine}", "engine.sources=training"))


@pytest.mark.parametrize("method", ["kd", "kd_supermix"])
def test_table_1_changes_no_weights_of_distillation_silently(method: str) -> None:
    given = ["experiment=table1", "data=shapes", "teacher.checkpoint=t.pth", f"method={method}"]
    with pytest.raises(
        ValueError, match=r"expected task=classification under protocol=table1, .*task\.kd_weight=0\.[29]"
    ):
        check_settings(composed(*given))
    check_settings(composed(*given, "task.ce_weight=1.8", "task.kd_weight=0.2"))
    check_settings(composed(*given, "protocol=equal"))


def test_settings_of_a_mixer_need_one() -> None:
    given = ["experiment=ablation_mixes", "method=ce_imgnet32", "data=shapes", "teacher.checkpoint=t.pth"]
    with pytest.raises(ValueError, match=r"expected a mixer that takes mixer\.k, mixer\.alpha, got mixer=none"):
        check_settings(composed(*given))


def test_whole_numbers_will_do_for_fractions() -> None:
    check_settings(composed("mixer=supermix", *TEACHER, "mixer.alpha=1", "optimizer.lr=1"))


@pytest.mark.parametrize("error", [ValueError("what"), FileNotFoundError("what"), TypeError("what")])
def test_errors_of_settings_have_one_name(error: Exception) -> None:
    with pytest.raises(SettingsError, match="what"), named_errors():
        raise error
    with pytest.raises(RuntimeError), named_errors():
        raise RuntimeError
    with pytest.raises(OSError, match="No space left") as full, named_errors():
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not isinstance(full.value, SettingsError)


def test_a_checkpoint_may_lie_where_lightning_finds_it(tmp_path: Path) -> None:
    with fsspec.open("memory://elsewhere/there.ckpt", "wb") as file:
        file.write(b"weights")  # pyright: ignore[reportAttributeAccessIssue]
    check_settings(small(*paths(tmp_path), "ckpt_path=memory://elsewhere/there.ckpt"))
    with pytest.raises(ValueError, match=r"got no such file as memory://elsewhere/absent\.ckpt"):
        check_settings(small(*paths(tmp_path), "ckpt_path=memory://elsewhere/absent.ckpt"))


def test_a_line_ends_a_program_and_a_full_trace_does_where_hydra_is_asked_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(SystemExit, match="program: error: what"), ending_in_a_line("program"):
        raise SettingsError("what")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(SettingsError), ending_in_a_line("program"):
        raise SettingsError("what")


@pytest.mark.parametrize("program", [cli.train, cli.generate])
def test_help_has_examples_and_names_every_choice(program, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["program", "--help"])
    program()
    said = capsys.readouterr().out
    examples = [line.split() for line in said.splitlines() if line.startswith("  supermix-")]
    assert len(examples) == 3
    assert "mixer=  cutmix fmix half mixup none puzzlemix resizemix saliencymix supermix supermix_fast" in said
    if program is cli.train:
        lines = [line.split(maxsplit=1) for line in said.splitlines() if line.startswith("  ")]
        assert {words[0] for words in lines if len(words) == 2} >= set(METHODS)
    for command, *words in examples:
        overrides = [word for word in words if "=" in word and "," not in word]
        compose(command.removeprefix("supermix-"), overrides)
