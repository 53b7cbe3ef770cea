"""Sweeps and launchers: which jobs a multirun starts, and with what; none of the quick tests trains."""

import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_module
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import ConfigCompositionException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from supermix_pl.experiments.building import build_data
from supermix_pl.experiments.checks import check_settings
from supermix_pl.experiments.train import train
from tests.composing import compose, compose_anew

CONF = Path(__file__).resolve().parents[2] / "conf"
ABLATIONS = sorted(path.stem for path in (CONF / "experiment").glob("ablation_*.yaml"))
SLOW = pytest.mark.slow
OLD_OPTUNA = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Hydra's sweeper needs Optuna 2, SQLAlchemy 2.1
VARIED = {
    "ablation_alpha": ("mixer.alpha", [0.1, 0.3, 1, 3, 10]),
    "ablation_k": ("mixer.k", [2, 3, 4]),
    "ablation_lambda_s": ("mixer.lambda_s", [0, 10, 20, 25, 30, 40, 50]),
    "ablation_mask_size": ("mixer.mask_size", [2, 4, 8, 16, 32]),
    "ablation_mixes": ("num_mixes", [4, 8]),
    "ablation_sigma": ("mixer.sigma", [0, 0.5, 1, 2, 4]),
}


@pytest.fixture(autouse=True)
def configs() -> Iterator[None]:
    with initialize_config_module("supermix_pl.conf", version_base="1.3"):
        yield


def multirun(folder: Path, *overrides: str, program: str = "train") -> DictConfig:
    """What Hydra composes for the sweep itself."""
    overrides = (
        "hydra.mode=MULTIRUN",
        f"hydra.sweep.dir={folder}",
        f"paths.root_dir={folder}",
        f"paths.output_dir={folder}",
        *overrides,
    )
    return _hydra().compose_config(program, list(overrides), run_mode=RunMode.MULTIRUN, from_shell=False)


Job = dict[str, str]


def jobs(folder: Path, *overrides: str, task: Callable[[Job], float] = lambda job: 0.0) -> list[list[Job]]:
    """Let Hydra's sweeper sweep, with a task in place of the training: the overrides of the jobs, launch by launch."""
    config = multirun(folder, *overrides)
    sweeper: Any = Plugins.instance().instantiate_sweeper(
        config=config, hydra_context=_context(config), task_function=_nothing
    )
    launched = _Launched(task)
    getattr(sweeper, "sweeper", sweeper).launcher = launched
    sweeper.sweep(list(config.hydra.overrides.task))
    return launched.batches


class _Launched:
    """Hands the overrides of the jobs to a function."""

    def __init__(self, task: Callable[[Job], float]) -> None:
        self.task = task
        self.batches: list[list[Job]] = []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        batch = [dict(override.split("=", 1) for override in overrides) for overrides in job_overrides]
        self.batches.append(batch)
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=self.task(job)) for job in batch]


def _hydra() -> Any:
    return GlobalHydra.instance().hydra


def _context(config: DictConfig) -> HydraContext:
    return HydraContext(config_loader=_hydra().config_loader, callbacks=Callbacks(config))


def _nothing(config: DictConfig) -> None: ...


def test_every_ablation_is_listed_here() -> None:
    assert sorted(VARIED) == ABLATIONS


@pytest.mark.parametrize(
    "name", [name if name in ("ablation_k", "ablation_mixes") else pytest.param(name, marks=SLOW) for name in ABLATIONS]
)
def test_an_ablation_varies_what_its_name_says(tmp_path: Path, name: str) -> None:
    key, values = VARIED[name]
    (found,) = jobs(tmp_path, f"experiment={name}", "scale=smoke")
    assert [float(job.pop(key)) for job in found] == values
    assert all(job == found[0] for job in found)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_has_the_papers_setting(name: str) -> None:
    config = compose("train", [f"experiment={name}"])
    names = [config[node].name for node in ("pair", "method", "protocol", "scale")]
    assert names == ["wrn_40_2-wrn_16_2", "ce_supermix", "paper", "paper"]
    assert config.table is None
    mixer = config.mixer
    assert (mixer.k, mixer.alpha, mixer.lambda_s) == (2, 1.0 if name == "ablation_mixes" else 3.0, 25.0)
    assert (mixer.sigma, mixer.mask_size, config.mixes.size) == (1.0, 8, 500_000)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(["mixer.k=3"], ["3"], id="one"),
        pytest.param(["seed=0,1", "mixer.k=2,5"], ["2", "2", "5", "5"], id="others-and-seeds"),
    ],
)
def test_values_on_the_command_line_take_the_place_of_an_ablations(
    tmp_path: Path, given: list[str], expected: list[str]
) -> None:
    (found,) = jobs(tmp_path, "experiment=ablation_k", *given)
    assert sorted(job["mixer.k"] for job in found) == expected
    assert len({tuple(sorted(job.items())) for job in found}) == len(expected)


@pytest.mark.parametrize(("experiment", "report"), [("quickstart", "html"), ("table2", "table2")])
def test_a_sweep_ends_with_the_command_that_shows_it(
    tmp_path: Path, experiment: str, report: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = multirun(tmp_path / "my runs", f"experiment={experiment}")
    Callbacks(config).on_multirun_end(config=config, config_name="train")
    assert capsys.readouterr().out == f"to see the runs: supermix-report {report} '{tmp_path / 'my runs'}'\n"


def test_a_sweep_of_data_sets_of_mixes_has_no_runs_to_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = multirun(tmp_path, "experiment=quickstart", program="generate")
    Callbacks(config).on_multirun_end(config=config, config_name="generate")
    assert capsys.readouterr().out == ""


def test_each_job_of_a_sweep_that_fails_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = multirun(tmp_path, "mixer=mixup", "hydra.runtime.output_dir=runs/third")
    for status, value in ((JobStatus.COMPLETED, 0.5), (JobStatus.FAILED, ValueError("expected alpha > 0"))):
        job_return = JobReturn(status=status, _return_value=value)
        Callbacks(config).on_job_end(config=config, config_name="train", job_return=job_return)
    assert caplog.messages == ["failed: runs/third: expected alpha > 0"]


def folders(folder: Path, *overrides: str) -> list[str]:
    """Where the jobs of a sweep go, within that of the sweep."""
    config = multirun(folder, *overrides)
    Callbacks(config).on_multirun_start(config=config, config_name="train")
    load = _hydra().config_loader.load_sweep_config
    given = [
        [f"{key}={value}" for key, value in job.items()] for (*batch,) in jobs(folder, *overrides) for job in batch
    ]
    return [load(config, overrides).hydra.sweep.subdir for overrides in given]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["seed=0,1", "trainer.max_epochs=1"], ["seed=0", "seed=1"]),
        pytest.param(["optimizer.lr=0.1", "mixer=none,mixup"], ["mixer=none", "mixer=mixup"], marks=SLOW),
        (["method=kd", "paths.data_dir=/a/b", "seed=0,1"], ["method=kd,seed=0", "method=kd,seed=1"]),
        pytest.param(["experiment=ablation_k", "mixer.k=2,3"], ["mixer.k=2", "mixer.k=3"], marks=SLOW),
        (["data.size=32"], ["job"]),
    ],
)
def test_jobs_are_named_by_what_is_swept(tmp_path: Path, overrides: list[str], expected: list[str]) -> None:
    assert folders(tmp_path, *overrides) == expected


def test_names_of_jobs_have_no_paths_and_are_not_too_long(tmp_path: Path) -> None:
    found = folders(tmp_path, "teacher=checkpoint", "teacher.checkpoint=/x/a.pth,/y/a.pth")
    assert len(set(found)) == 2
    assert all(re.fullmatch(r"teacher\.checkpoint=a\.pth-[0-9a-f]{8}", name) for name in found)
    first, second = folders(tmp_path, "method=plain,kd", f"paths.cache_dir={'x' * 200}1,{'x' * 200}2")[:2]
    assert first != second
    assert max(len(first), len(second)) <= 150


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "outputs/train"),
        (["experiment=quickstart", "trainer.max_epochs=1"], "outputs/quickstart"),
        (["experiment=quickstart", "seed=1", "method=kd"], "outputs/quickstart/method=kd,seed=1"),
    ],
)
def test_the_folder_of_a_run_is_named_by_its_experiment(overrides: list[str], expected: str) -> None:
    hydra = compose_anew("train", overrides, return_hydra_config=True).hydra
    assert hydra.run.dir == expected
    assert hydra.sweep.dir == "multirun/" + expected.split("/")[1]


def test_an_ablation_takes_other_groups() -> None:
    groups = {"pair": "vgg13-vgg8", "method": "kd_cutmix", "protocol": "equal", "scale": "cpu"}
    config = compose("train", ["experiment=ablation_k", *(f"{group}={name}" for group, name in groups.items())])
    assert {group: config[group].name for group in groups} == groups


@pytest.mark.parametrize("scale", ["smoke", *(pytest.param(name, marks=SLOW) for name in ("cpu", "gpu_hour", "paper"))])
def test_the_sizes_of_the_mixed_data_go_with_the_scale(tmp_path: Path, scale: str) -> None:
    usual = compose("train", ["experiment=table2", f"scale={scale}"]).mixes.size
    (found,) = jobs(tmp_path, "experiment=ablation_mixes", f"scale={scale}")
    sizes = [int(job["num_mixes"]) for job in found]
    assert sizes == sorted(set(sizes))
    assert usual in sizes
    assert sizes[-1] <= 2 * usual


@OLD_OPTUNA
def test_the_search_maximises_what_a_run_gives_back(tmp_path: Path) -> None:
    search = ["hparams_search=optuna", "experiment=quickstart"]
    trials = ["hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=3"]
    found = jobs(tmp_path, *search, *trials, task=lambda job: float(job["mixer.lambda_s"]))
    assert [len(batch) for batch in found] == [3, 3]
    ranges = {"mixer.k": (2, 3), "mixer.alpha": (0.3, 10), "mixer.lambda_s": (0, 50), "optimizer.lr": (0.01, 0.3)}
    for job in itertools.chain(*found):
        assert all(least <= float(job[key]) <= most for key, (least, most) in ranges.items())
    weights = [float(job["mixer.lambda_s"]) for job in itertools.chain(*found)]
    assert len(set(weights)) == 6
    best = OmegaConf.load(tmp_path / "optimization_results.yaml")
    assert best.best_value == max(weights)
    assert set(best.best_params) == set(ranges)
    again = jobs(tmp_path, *search, *trials, task=lambda job: float(job["mixer.lambda_s"]))
    assert again == found  # so that a search that was stopped goes on
    config = compose("train", [*search, *(f"{key}={value}" for key, value in found[0][0].items() if key in ranges)])
    assert config.data.validation_fraction > 0  # the test images have no say


@OLD_OPTUNA
def test_the_search_leaves_alone_what_the_command_line_gives(tmp_path: Path) -> None:
    given = ["mixer.k=2", "mixer.lambda_s=interval(20,30)", "hydra.sweeper.n_trials=3"]
    tried = [job for (job,) in jobs(tmp_path, "hparams_search=optuna", "experiment=quickstart", *given)]
    assert [job["mixer.k"] for job in tried] == ["2", "2", "2"]
    assert all(20 <= float(job["mixer.lambda_s"]) <= 30 for job in tried)


@OLD_OPTUNA
@pytest.mark.skipif(not version("sqlalchemy").startswith("1."), reason="needs sqlalchemy<2, as the extra optuna has it")
def test_a_search_with_a_storage_goes_on(tmp_path: Path) -> None:
    search = ["hparams_search=optuna", "experiment=quickstart", "hydra.sweeper.study_name=one"]
    search += [f"hydra.sweeper.storage='sqlite:///{tmp_path}/search.db'", "hydra.sweeper.sampler.seed=null"]
    values: list[float] = []

    def task(job: Job) -> float:
        values.append(float(job["mixer.lambda_s"]))
        return values[-1]

    for _ in range(2):
        jobs(tmp_path, *search, "hydra.sweeper.n_trials=2", task=task)
    assert len(set(values)) == 4
    assert OmegaConf.load(tmp_path / "optimization_results.yaml").best_value == max(values)


@pytest.mark.parametrize(
    "experiment",
    [
        ["experiment=table2"],
        pytest.param([], marks=pytest.mark.slow),
        pytest.param(["experiment=quickstart", "method=ce_supermix"], marks=pytest.mark.slow),
    ],
)
def test_a_search_composes_in_small(tmp_path: Path, experiment: list[str]) -> None:
    ((job,),) = jobs(tmp_path, "scale=smoke", "hparams_search=optuna", "hydra.sweeper.n_trials=1", *experiment)
    config = compose("train", [f"{key}={value}" for key, value in job.items()])
    check_settings(config)
    assert len(build_data(config).val_dataloader()) > 0


def test_a_search_leaves_a_chosen_mixer_alone() -> None:
    config = compose("train", ["hparams_search=optuna", "method=ce_mixup", "pair=wrn_40_2-wrn_16_2"])
    assert config.mixer._target_ == "supermix_pl.MixUp"
    assert compose("train", ["hparams_search=optuna"]).mixer.views == "auto"


SBATCH = """#!/bin/sh
for last; do :; done
cp "$last" {folder}/submitted.sh
echo stopped here >&2
exit 1
"""


def submitted(folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> set[str]:
    """Submit two jobs to a Slurm that keeps the script and refuses it: the script's #SBATCH lines."""
    from submitit.core.utils import FailedJobError

    commands = {"srun": "#!/bin/sh\n", "sbatch": SBATCH.format(folder=folder)}
    for name, text in commands.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    config = multirun(folder, "hydra/launcher=slurm", "hydra.job.name=train", *overrides)
    launcher = Plugins.instance().instantiate_launcher(
        config=config, hydra_context=_context(config), task_function=_nothing
    )
    with pytest.raises(FailedJobError, match="stopped here"):
        launcher.launch([["seed=0"], ["seed=1"]], initial_job_idx=0)
    lines = (folder / "submitted.sh").read_text().splitlines()
    return {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH --")}


def test_a_job_of_slurm_has_a_task_for_every_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = ["trainer=ddp", "+trainer.num_nodes=3", "hydra.launcher.partition=gpu", "hydra.launcher.timeout_min=90"]
    assert submitted(tmp_path, monkeypatch, *two) >= {
        "nodes=3",
        "ntasks-per-node=2",
        "gpus-per-node=2",
        "cpus-per-task=8",
        "partition=gpu",
        "time=90",
        "array=0-1%2",
        "mem=32GB",
    }


def test_a_job_of_slurm_is_one_task_for_one_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = submitted(tmp_path, monkeypatch, "hydra.launcher.gpus_per_node=null")
    assert lines >= {"nodes=1", "ntasks-per-node=1", "time=1440"}
    assert not any(line.startswith(("gpus", "partition", "account")) for line in lines)


@pytest.mark.parametrize("launcher", ["joblib", "local", "slurm"])
def test_launchers_compose(tmp_path: Path, launcher: str) -> None:
    config = multirun(tmp_path, f"hydra/launcher={launcher}")
    assert config.hydra.runtime.choices["hydra/launcher"] == launcher
    assert not OmegaConf.missing_keys(config.hydra.launcher)
    assert Plugins.instance().instantiate_launcher(
        config=config, hydra_context=_context(config), task_function=_nothing
    )


@pytest.fixture
def job(tmp_path: Path) -> Iterator[DictConfig]:
    """A job of a multirun on two CPUs, whose data cannot be opened."""
    devices = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp"]
    config = multirun(tmp_path, "data=image_folder", f"data.folder={tmp_path}/nowhere", *devices)
    HydraConfig.instance().set_config(config)
    yield OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])
    HydraConfig.instance().cfg = None


def test_a_job_whose_ranks_would_start_the_sweep_again_ends_before_anything_is_opened(
    tmp_path: Path, job: DictConfig
) -> None:
    with pytest.raises(ValueError, match=r"expected one device a job in a multirun, got 2 .*tasks_per_node"):
        train(job)
    assert not list(tmp_path.iterdir())


def test_a_job_of_slurm_with_a_task_for_every_device_goes_on_to_its_data(
    monkeypatch: pytest.MonkeyPatch, job: DictConfig
) -> None:
    task = {"JOB_ID": 7, "JOB_NAME": "train", "NNODES": 1, "NTASKS": 2, "NTASKS_PER_NODE": 2}
    for name, value in (task | {"PROCID": 0, "LOCALID": 0, "NODEID": 0, "NODELIST": "node"}).items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))  # as srun does
    with pytest.raises(ValueError, match="nowhere"):
        train(job)


@pytest.mark.parametrize(("group", "known"), [("pair", "wrn_40_2-wrn_16_2"), ("method", "kd_supermix")])
def test_an_unknown_pair_or_method_lists_those_that_exist(group: str, known: str) -> None:
    with pytest.raises(ConfigCompositionException, match=rf"(?s)Available options in '{group}'.*\t{known}\n"):
        compose("train", [f"{group}=unknown"])
