"""The same command goes on where a run was stopped, and passes over one that is finished."""

import errno
import json
import logging
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from supermix_pl.experiments import checkpoints, restart
from supermix_pl.experiments import train as program
from supermix_pl.experiments.checkpoints import Restart, found, is_whole
from supermix_pl.experiments.checks import SettingsError
from supermix_pl.experiments.record import RunRecorder
from supermix_pl.experiments.shared.files import FULL
from supermix_pl.experiments.train import train
from tests.composing import compose
from tests.killing import small_disk

TIMES = ("fit_seconds", "ms_per_step")
RUNS = {
    "kd": ["method=kd"],
    "stream": ["method=kd_all_supermix"],
    "validated within epochs": ["method=kd", "+trainer.val_check_interval=0.4"],
    "validated every epoch": ["method=kd", "trainer.check_val_every_n_epoch=1"],
    "accumulated": ["method=kd", "trainer.accumulate_grad_batches=2"],
}
SMALL = [
    *("experiment=table2", "pair=resnet56-resnet20", "protocol=equal", "trainer.max_epochs=2", "data.batch_size=4"),
    *("scale=smoke", "network=resnet8", "network@teacher.network=resnet8", "restart.minutes=0"),
    *("trainer.limit_train_batches=null", "data.train_size=20", "trainer.precision=32-true", "callbacks=default"),
    "callbacks.progress=null",
]


def run(folder: Path, kind: str, *overrides: str) -> dict[str, Any]:
    paths = [f"paths.root_dir={folder.parent}", f"paths.output_dir={folder}"]
    return train(compose("train", [*SMALL, *RUNS[kind], *paths, *overrides]))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of runs that went through, each trained once."""
    folders: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp("whole") / "run"
            run(folders[kind], kind)
        return folders[kind]

    return of


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def assert_same_run(folder: Path, whole: Path) -> None:
    """Metrics, weights and files are those of a run that went through, to the bit."""
    metrics, expected = (json.loads((each / "metrics.json").read_text()) for each in (folder, whole))
    for time in TIMES:
        del metrics[time], expected[time]
    assert metrics == expected
    resumed, weights = (torch.load(each / "weights.pth", weights_only=True)["model"] for each in (folder, whole))
    for name, value in weights.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0, msg=name)
    assert names(folder) == names(whole)  # no file of an earlier moment, none half written


class Stop(Exception):
    """As if the process was killed."""


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Stop the next run behind so many checkpoints; later ones go through."""
    save, saved = Restart._save, []

    def stopping(each: Restart, trainer: Any) -> None:
        save(each, trainer)
        saved.append(trainer.global_step)
        if len(saved) == count:
            raise Stop

    monkeypatch.setattr(Restart, "_save", stopping)


def stopped(folder: Path, kind: str, count: int, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Stop a run; its checkpoints, the newest first."""
    stop_after(monkeypatch, count)
    with pytest.raises(Stop):
        run(folder, kind)
    left = found(folder / restart.CHECKPOINTS)
    assert len(left) == min(count, checkpoints.KEPT)
    return left


SLOW = pytest.mark.slow
MOMENTS = {  # of the runs' ten steps: within an epoch, at its end, in the second, at the end
    "kd": (3, 5, 7, 10),
    "stream": (3, 5, 7),
    "validated within epochs": (2, 5),
    "validated every epoch": (5, 6),
    "accumulated": (2, 3),
}


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        pytest.param(
            kind, count, marks=() if (kind, count) in (("stream", 3), ("validated within epochs", 2)) else SLOW
        )
        for kind in RUNS
        for count in MOMENTS[kind]
    ],
)
def test_the_same_command_goes_on(
    tmp_path: Path, whole: Callable[[str], Path], kind: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(tmp_path / "run", kind, count, monkeypatch)
    run(tmp_path / "run", kind)
    assert_same_run(tmp_path / "run", whole(kind))


@pytest.mark.parametrize("what", ["half of it", "other bytes", pytest.param("what is beside it", marks=SLOW)])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path,
    whole: Callable[[str], Path],
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    newest, before = stopped(tmp_path / "run", "stream", 4, monkeypatch)
    damaged = next(newest.parent.glob(f"{newest.name}.*")) if what == "what is beside it" else newest
    content = bytearray(damaged.read_bytes())
    if what == "other bytes":
        content[len(content) // 2] ^= 255
    else:
        del content[len(content) // 2 :]
    damaged.write_bytes(content)
    assert not is_whole(newest)
    assert is_whole(before)
    with caplog.at_level(logging.INFO, "supermix_pl"):
        run(tmp_path / "run", "stream")
    assert f"{newest} is damaged: going on from the one before" in caplog.text
    assert f"going on from {before}" in caplog.text
    assert_same_run(tmp_path / "run", whole("stream"))


def test_a_full_disk_leaves_the_checkpoints_that_are_there(
    tmp_path: Path, whole: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, save, saved = tmp_path / "run", Restart._save, []

    def on_full_disk(each: Restart, trainer: Any) -> None:
        """Let no file become as large as a checkpoint from the fourth on."""
        saved.append(trainer.global_step)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        if len(saved) == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            save(each, trainer)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(Restart, "_save", on_full_disk)
    with pytest.raises(OSError, match="too large") as error:
        run(folder, "kd")
    assert error.value.errno in FULL
    left = found(folder / restart.CHECKPOINTS)
    assert [path.name for path in left] == ["step-000000003.ckpt", "step-000000002.ckpt"]
    assert all(map(is_whole, left))
    assert not any(name.endswith(".part") for name in names(folder))
    run(folder, "kd")
    assert_same_run(folder, whole("kd"))


@SLOW
@pytest.mark.parametrize("kind", ["kd", "stream"])
def test_a_disk_that_is_full_again_and_again(tmp_path: Path, whole: Callable[[str], Path], kind: str) -> None:
    """It grows a little whenever it is full: most often in the middle of a file, whichever that is."""
    folder, errors = tmp_path / "run", []
    with small_disk(folder) as resize:
        while not (folder / "metrics.json").is_file():
            try:
                run(folder, kind)
            except (OSError, SettingsError) as error:
                errors.append(str(error))
            assert all(map(is_whole, found(folder / restart.CHECKPOINTS)))
            resize(64 + 190 * len(errors))
        assert len(errors) >= 8
        assert all("No space left" in error for error in errors)
        assert_same_run(folder, whole(kind))


def test_a_full_disk_ends_the_run_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(config: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(program, "train", full)
    config = compose("train", [f"paths.root_dir={tmp_path}", f"paths.output_dir={tmp_path}"])
    with pytest.raises(SystemExit, match=r"expected room on the disk, .* No space left .* the same command again"):
        program.main.__wrapped__(config)


def test_a_finished_run_is_passed_over_and_overwrite_trains_it_anew(
    tmp_path: Path, whole: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole("kd"), folder)
    (folder / "kept.txt").touch()
    before = (folder / "metrics.json").stat().st_mtime_ns
    with caplog.at_level(logging.INFO, "supermix_pl"):
        assert run(folder, "kd") == json.loads((folder / "metrics.json").read_text())
    assert f"{folder} is finished; overwrite=true trains it anew" in caplog.text
    assert (folder / "metrics.json").stat().st_mtime_ns == before
    run(folder, "kd", "overwrite=true", "trainer.num_sanity_val_steps=1")
    assert (folder / "metrics.json").stat().st_mtime_ns > before
    assert json.loads((folder / "metrics.json").read_text())["steps"] == 10
    assert (folder / "kept.txt").is_file()


def test_other_settings_are_refused_and_named(tmp_path: Path, whole: Callable[[str], Path]) -> None:
    shutil.copytree(whole("kd"), tmp_path / "run")
    changed = ["seed=1", "trainer.max_epochs=3", "trainer.log_every_n_steps=5", "restart.minutes=7"]
    with pytest.raises(SettingsError) as error:
        run(tmp_path / "run", "kd", *changed)
    text = str(error.value)
    assert "seed=1 instead of 0" in text
    assert "trainer.max_epochs=3 instead of 2" in text
    assert "log_every_n_steps" not in text
    assert "overwrite=true" in text
    assert "hydra.run.dir=FOLDER" in text
    (tmp_path / "run" / "config.yaml").write_text("{")
    with pytest.raises(SettingsError, match=r"expected the config of a run in .*config\.yaml, got none; .*overwrite"):
        run(tmp_path / "run", "kd")


def test_a_path_is_the_same_where_it_leads_to_the_same(tmp_path: Path) -> None:
    first, moved, other = (tmp_path / name / "weights.pth" for name in ("first", "moved", "other"))
    for path, content in ((first, "a"), (moved, "a"), (other, "b")):
        path.parent.mkdir()
        path.write_text(content)
    assert restart._is_same(str(first), str(moved))
    assert not restart._is_same(str(first), str(other))
    assert restart._is_same(str(tmp_path / "gone" / "weights.pth"), str(other))  # moved
    assert not restart._is_same(str(first), str(tmp_path / "gone" / "weights.pth"))
    assert restart._is_same("/gone/weights.pth", "/nowhere/weights.pth")  # to be made, in a run's folder that was moved
    assert not restart._is_same("a/cifar", "b/cifar")  # names on the Hub
    for name in ("x/data", "y/data", "z/data"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "shard").write_text("1234" if name[0] == "z" else "123")
    assert restart._is_same(str(tmp_path / "x" / "data"), str(tmp_path / "y" / "data"))
    assert not restart._is_same(str(tmp_path / "x" / "data"), str(tmp_path / "z" / "data"))


def test_another_teacher_of_the_same_name_is_another_setting(tmp_path: Path, whole: Callable[[str], Path]) -> None:
    shutil.copytree(whole("kd"), tmp_path / "run")
    config = OmegaConf.load(tmp_path / "run" / "config.yaml")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.pth").write_text(name)
    config.ckpt_path = str(tmp_path / "a" / "weights.pth")
    OmegaConf.save(config, tmp_path / "run" / "config.yaml")
    with pytest.raises(SettingsError, match=r"ckpt_path=.*b/weights\.pth instead of .*a/weights\.pth"):
        run(tmp_path / "run", "kd", f"ckpt_path={tmp_path}/b/weights.pth")


def test_a_job_that_slurm_queues_again_overwrites_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [f"paths.root_dir={tmp_path}", f"paths.output_dir={tmp_path}"]
    config = compose("train", [*SMALL, *RUNS["kd"], *paths, "overwrite=true"])
    checkpoint = tmp_path / restart.CHECKPOINTS / "step-000000001.ckpt"
    starts = [("7", None, False), ("7", "0", False), ("7", "1", True), ("8", "1", False), (None, None, False)]
    for job, restarts, stays in starts:
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.touch()
        for name, value in (("SLURM_JOB_ID", job), ("SLURM_RESTART_COUNT", restarts)):
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, value)
        assert restart.open_run(config) is None
        assert checkpoint.exists() == stays, (job, restarts)


def test_a_run_without_a_test_ends_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"expected trainer\.limit_test_batches to leave one of"):
        run(tmp_path / "run", "kd", "trainer.limit_test_batches=0.001")
    assert not (tmp_path / "run" / restart.CHECKPOINTS).exists()


def test_a_folder_belongs_to_one_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = OmegaConf.create({"paths": {"output_dir": str(tmp_path)}, "matmul_precision": "high"})
    with restart.alone(tmp_path) as mine, caplog.at_level(logging.INFO, "supermix_pl"):
        assert mine
        assert program.main.__wrapped__(config) is None
    assert f"{tmp_path}: another process is at it" in caplog.text
    with restart.alone(tmp_path) as mine:
        assert mine


def signalled(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Send a signal to this process in the middle of the third step of the next run."""
    sent: list[int] = []

    def send(recorder: RunRecorder, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 2 and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    monkeypatch.setattr(RunRecorder, "on_train_batch_start", send, raising=False)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 1, marks=SLOW)])
def test_a_signal_saves_the_run_at_the_end_of_its_step(
    tmp_path: Path,
    whole: Callable[[str], Path],
    number: int,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        pytest.skip("Ctrl-C is ignored here, as in whatever a shell starts in the background")
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    signalled(monkeypatch, number)
    caplog.set_level(logging.INFO)
    with pytest.raises(SystemExit) as error:
        run(tmp_path / "run", "kd", "restart.minutes=60", "overwrite=true")
    assert error.value.code == status
    assert "the same command without overwrite=true goes on" in caplog.text
    assert "weights_only" not in caplog.text  # Lightning's note on what it was not told
    assert [path.name for path in found(tmp_path / "run" / restart.CHECKPOINTS)] == ["step-000000003.ckpt"]
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == handlers
    run(tmp_path / "run", "kd")
    assert_same_run(tmp_path / "run", whole("kd"))


def test_a_job_of_slurm_is_saved_and_queued_again(
    tmp_path: Path, whole: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = {"JOB_ID": 7, "JOB_NAME": "train", "NNODES": 1, "NTASKS": 1, "NTASKS_PER_NODE": 1}
    for name, value in (task | {"PROCID": 0, "LOCALID": 0, "NODEID": 0, "NODELIST": "node"}).items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))  # as srun does
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    signalled(monkeypatch, signal.SIGUSR1)
    stop_after(monkeypatch, 4)  # Slurm ends it a step later
    with pytest.raises(Stop):
        run(tmp_path / "run", "kd")
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    assert (tmp_path / "run" / "hpc_ckpt_1.ckpt").is_file()  # Lightning's own
    run(tmp_path / "run", "kd")
    assert_same_run(tmp_path / "run", whole("kd"))
