"""`supermix-generate`: makes a fixed data set of mixes, as the paper does before it trains.

By `SuperMix.fast` where no mixer is chosen: masks that are solved under the views that the training will show, which is
what `mixing.mixed_transform` says.
"""

import logging
import signal
from multiprocessing import parent_process
from typing import Any

import hydra
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning.accelerators import CPUAccelerator, CUDAAccelerator
from torch.multiprocessing.spawn import start_processes

from supermix_pl import FrozenTeacher
from supermix_pl.experiments.building import build_data, build_mixes, build_teacher, works_on_gpu
from supermix_pl.experiments.checks import SettingsError, check_choices, check_settings, ending_in_a_line, named_errors
from supermix_pl.experiments.mixes import Fixed, FixedMixes

_log = logging.getLogger(__name__)


@hydra.main(config_path="pkg://supermix_pl.conf", config_name="generate", version_base="1.3")
def main(config: DictConfig) -> None:
    """Mix the training images; a stopped run goes on where it was, several may share the work."""
    with ending_in_a_line("supermix-generate"):
        run(config)


def run(config: DictConfig) -> None:
    """Make what is missing of the mixes, by a process for each device, and log how many hold."""
    with named_errors():
        if not config.mixer:
            with open_dict(config):
                config.mixer = {"_target_": "supermix_pl.SuperMix.fast"}
        check_settings(config)
        check_choices(config)
        devices = list_devices(config)
    making, teacher = _prepare(config, devices, 0)
    plain = OmegaConf.create(OmegaConf.to_container(config, resolve=True))  # other processes know nothing of hydra
    others: Any = start_processes(_help, (plain, devices), nprocs=len(devices) - 1, join=False)
    try:
        with named_errors():
            mixes = FixedMixes(making.make(teacher))
        while not others.join():
            pass
    finally:
        for process in filter(None, others.processes):
            process.terminate()
    holds, solved = (100 * float(mixes.facts[name].mean()) for name in ("holds", "solved"))
    views = mixes.about["views"]
    _log.info(
        "%d mixes in %s, solved %s: %.1f %% hold under a fresh view, %.1f %% met the criterion in their last pass",
        *(len(mixes), mixes.folder, f"under {views}" if views else "on their exact pixels", holds, solved),
    )


def list_devices(config: DictConfig) -> list[torch.device]:
    """Return the device of each process that makes mixes: as many as `trainer.devices` says.

    Raises:
        ValueError: If there are not as many GPUs.
    """
    kind = CUDAAccelerator if works_on_gpu(config) else CPUAccelerator
    wanted: Any = config.trainer.devices
    if wanted == "auto":
        wanted = kind.auto_device_count()
    elif OmegaConf.is_list(wanted):
        wanted = list(wanted)
    try:
        devices: Any = kind.parse_devices(wanted)
    except (MisconfigurationException, TypeError) as error:
        raise ValueError(f"expected trainer.devices that there are, got {config.trainer.devices}: {error}") from error
    return kind.get_parallel_devices(devices)


@named_errors()
def _prepare(config: DictConfig, devices: list[torch.device], index: int) -> tuple[Fixed, FrozenTeacher]:
    """Open what one of the processes needs, the teacher on its device."""
    torch.set_float32_matmul_precision(config.matmul_precision)
    if devices[index].type == "cuda":
        torch.cuda.set_device(devices[index])
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // len(devices)))
    datamodule = build_data(config)
    making = build_mixes(config, datamodule)
    if not isinstance(making, Fixed):
        raise SettingsError(f"expected mixes=fixed, which says how many to make, got {config.mixes}")
    teacher = build_teacher(config, datamodule)
    assert isinstance(teacher, FrozenTeacher)  # the choices are checked
    return making, teacher


def _help(index: int, config: DictConfig, devices: list[torch.device]) -> None:
    """Make mixes in a process beside the first, until all are there."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # how torch ends it; a shell's background ignores this one
    first = parent_process()
    if first is not None and not first.is_alive():  # it ended before torch had this process end with it
        return
    making, teacher = _prepare(config, devices, index + 1)
    making.make(teacher)


if __name__ == "__main__":
    main()
