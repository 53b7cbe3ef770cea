"""Sweeps that train, with every launcher: a killed one goes on, and Slurm's signals save a job and queue it again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-m", "supermix_pl.experiments.train", "-m", "hydra.sweep.dir=sweep"]
LONG = ["network=resnet8", "data.train_size=200", "trainer=cpu", "trainer.precision=32-true", "restart.minutes=0"]
LONG += ["data.test_size=20", "data.batch_size=10", "trainer.max_epochs=3", "trainer.log_every_n_steps=1"]
LONG += ["callbacks=none", "logger=none", "trainer.enable_progress_bar=false", "seed=0,1"]
TINY = ["data.train_size=100", "data.test_size=20", "data.batch_size=10", "teacher.epochs=1", "teacher.progress=false"]
TINY += ["trainer.max_epochs=1", "trainer.precision=32-true", "trainer.limit_train_batches=2", "mixing.log=false"]
TINY += ["trainer.log_every_n_steps=1", "trainer.enable_progress_bar=false", "mixer.max_steps=2"]
TINY += ["callbacks=none", "logger=none"]
LAUNCHERS = {
    "basic": [],
    "joblib": ["hydra/launcher=joblib"],
    "local": ["hydra/launcher=local"],
    "slurm": ["hydra/launcher=slurm", "hydra.launcher.gpus_per_node=null"],
    "ray": ["hydra/launcher=ray", "+hydra.launcher.ray.init.include_dashboard=false"],
}
# Of one node, where the jobs of an array run in turn, and again if they were queued again or killed from outside
SLURM = {
    "sbatch": """#!/bin/sh
        for script; do :; done
        cp "$script" {folder}/job.sh
        {folder}/node < /dev/null > /dev/null 2>&1 &
        echo Submitted batch job 7""",
    "node": """#!/bin/sh
        export SLURM_ARRAY_JOB_ID=7 SLURM_JOB_NAME=train SLURM_NNODES=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0
        export SLURM_NTASKS=1 SLURM_NTASKS_PER_NODE=1 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODELIST=node
        for SLURM_ARRAY_TASK_ID in 0 1; do
            export SLURM_ARRAY_TASK_ID SLURM_JOB_ID=$((8 + SLURM_ARRAY_TASK_ID))
            until sh {folder}/job.sh; [ $? -ne 137 ] && ! rm {folder}/queued; do :; done
        done""",
    "srun": """#!/bin/sh
        shift; while [ "$1" = --output ] || [ "$1" = --error ]; do shift 2; done
        exec "$@" >> {folder}/srun.log 2>&1""",
    "scontrol": """#!/bin/sh
        echo "$@" >> {folder}/asked
        touch {folder}/queued""",
    "sacct": """#!/bin/sh
        printf 'JobID|State|NodeList\\n7_0|RUNNING|node\\n7_1|RUNNING|node\\n'""",
}


def started(folder: Path, *overrides: str) -> list[DictConfig]:
    """Run a sweep: the resolved configs of the jobs that left metrics."""
    command = [*COMMAND, f"paths.cache_dir={folder}/cache", *overrides]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    configs = [OmegaConf.load(path.with_name("config.yaml")) for path in sorted(folder.glob("sweep/*/metrics.json"))]
    return [config for config in configs if isinstance(config, DictConfig)]


def interrupted(folder: Path, launcher: str, *numbers: signal.Signals) -> None:
    """Kill a sweep, or signal the jobs of submitit, as soon as its second job has a checkpoint."""
    with subprocess.Popen(
        [*COMMAND, *LONG, *LAUNCHERS[launcher]], cwd=folder, stdout=-3, stderr=-3, start_new_session=True
    ) as sweep:
        while not list(folder.glob("sweep/seed=1/checkpoints/*.ckpt")):
            assert sweep.poll() is None
            time.sleep(0.02)
        if not numbers:
            os.killpg(sweep.pid, signal.SIGKILL)
            return
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            if f"submitit.core._submit\0{folder}" in process.read_text():
                for number in numbers:
                    os.kill(int(process.parent.name), number)
                    time.sleep(0.5)
        assert sweep.wait(timeout=300) == 0


@pytest.fixture
def launcher(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A launcher that can be used here."""
    name: str = request.param
    if name == "ray":
        pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="no extra of dev: it pins an old cloudpickle")
        monkeypatch.setenv("RAY_worker_niceness", "0")  # in place of 15
    if name == "slurm":
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        for program, text in SLURM.items():
            (tmp_path / program).write_text(text.format(folder=tmp_path))
            (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # joblib shares the cores out, and sums depend on the threads
    return name


def test_an_ablation_runs(tmp_path: Path) -> None:
    found = started(tmp_path, "experiment=ablation_k", "scale=smoke")
    assert [config.mixer.k for config in found] == [2, 3, 4]


@pytest.mark.parametrize("launcher", ["local", "slurm", "ray"], indirect=True)
def test_a_sweep_runs_in_processes_that_a_launcher_starts(tmp_path: Path, launcher: str) -> None:
    protocol = ["experiment=table2", "scale=smoke", "seed=0,1"]  # with sums that a new process has to know
    assert [config.seed for config in started(tmp_path, *protocol, *LAUNCHERS[launcher])] == [0, 1]
    assert len(list(tmp_path.glob("sweep/.submitit/*/*_result.pkl"))) == (0 if launcher == "ray" else 2)


@pytest.mark.parametrize("launcher", ["basic", "joblib", "ray"], indirect=True)
def test_a_killed_sweep_goes_on(tmp_path: Path, launcher: str) -> None:
    interrupted(tmp_path, launcher)
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/*/metrics.json")}
    assert [config.seed for config in started(tmp_path, *LONG, *LAUNCHERS[launcher])] == [0, 1]
    assert "going on from" in (tmp_path / "sweep" / "seed=1" / "train.log").read_text()
    assert {path: path.stat().st_mtime_ns for path in finished} == finished  # passed over
    whole = tmp_path / "whole"
    whole.mkdir()
    started(whole, *LONG)
    for seed in (0, 1):
        weights, expected = (
            torch.load(each / f"sweep/seed={seed}/weights.pth", weights_only=True)["model"]
            for each in (tmp_path, whole)
        )
        assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("launcher", "numbers", "told"),
    [
        ("local", [signal.SIGUSR2], "Requeued job"),
        ("slurm", [signal.SIGUSR2], "Requeued job 7_1"),  # the time is nearly up
        ("slurm", [signal.SIGTERM, signal.SIGKILL], "Bypassing signal SIGTERM"),  # another job needs the node
    ],
    indirect=["launcher"],
    ids=["local", "slurm, time limit", "slurm, preemption"],
)
def test_jobs_that_are_preempted_are_saved_and_queued_again(
    tmp_path: Path, launcher: str, numbers: Sequence[signal.Signals], told: str
) -> None:
    interrupted(tmp_path, launcher, *numbers)
    logs = [path.read_text() for path in tmp_path.glob("sweep/seed=1/train.log")]
    assert all(f"{numbers[0].name}: saving at the end of the step" in log and "going on from" in log for log in logs)
    assert len(list(tmp_path.glob("sweep/*/metrics.json"))) == 2
    outputs = [*tmp_path.glob("sweep/.submitit/**/*_log.*"), *tmp_path.glob("srun.log")]
    assert any(told in path.read_text() for path in outputs)


def test_a_search_runs(tmp_path: Path) -> None:
    search = ["hparams_search=optuna", "experiment=quickstart", "hydra.sweeper.n_trials=2", *TINY]
    found = started(tmp_path, *search)
    assert len({config.optimizer.lr for config in found}) == 2
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/*/metrics.json")}
    started(tmp_path, *search)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/*/metrics.json")} == before
    best = OmegaConf.load(tmp_path / "sweep" / "optimization_results.yaml")
    assert 0 <= best.best_value <= 1
