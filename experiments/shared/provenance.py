"""Where a published number comes from: command, commit, machine, versions and seeds, without paths or host names."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

import supermix_pl


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What is needed to repeat a measurement."""

    command: str  # as typed, absolute paths made relative or shortened to their names
    commit: str | None  # of the checkout that the code ran from; None where there is none
    dirty: bool | None  # whether tracked or new files differed from that commit
    date: str  # in UTC
    machine: dict[str, str | int | float]  # CPU model, cores, threads, memory and, where one was used, GPU
    versions: dict[str, str]  # of Python and the packages that decide about speed
    seeds: tuple[int, ...]  # of all that was random

    def lines(self) -> list[str]:
        """Describe it in a few lines of text."""
        commit = "not from a git checkout" if self.commit is None else self.commit + " (dirty)" * bool(self.dirty)
        return [
            f"Command: `{self.command}`",
            f"Commit: {commit}; date: {self.date}; seeds: {', '.join(map(str, self.seeds))}",
            "Machine: " + "; ".join(f"{name} {value}" for name, value in self.machine.items()),
            "Versions: " + ", ".join(f"{name} {version}" for name, version in self.versions.items()),
        ]


def collect(
    module: str, arguments: Sequence[str], *, seeds: Sequence[int], device: torch.device | str = "cpu"
) -> Provenance:
    """Collect the provenance of a run of `python -m module arguments`; call it after the threads have been set."""
    commit, dirty = git_state(Path(supermix_pl.__file__).resolve())
    return Provenance(
        command=shlex.join(["python", "-m", module, *map(portable, arguments)]),
        commit=commit,
        dirty=dirty,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=_machine(torch.device(device)),
        versions=_versions(torch.device(device)),
        seeds=tuple(seeds),
    )


def portable(argument: str) -> str:
    """Take what is particular to a machine out of an argument.

    A path in the working folder or beside it becomes relative; of one elsewhere only the name is left.

    >>> portable("--output=/somewhere/else/results"), portable("--seeds"), portable("../shared/data")
    ('--output=.../results', '--seeds', '../shared/data')
    """
    option, equals, value = argument.partition("=") if "=" in argument else ("", "", argument)
    if not value.startswith(("/", "~/")):
        return argument
    here, path = Path.cwd(), Path(os.path.normpath(Path(value).expanduser()))
    near = [folder for folder in (here, here.parent) if len(folder.parts) > 1 and path.is_relative_to(folder)]
    return option + equals + (os.path.relpath(path, here) if near else f".../{path.name}")


def git_state(file: Path) -> tuple[str | None, bool | None]:
    """Return the commit of the checkout that tracks a file, and whether it is dirty; None where there is none.

    The results that the programs themselves write do not make a checkout dirty.
    """
    if not _git(file.parent, "ls-files", "--", file.name):
        return None, None
    commit = _git(file.parent, "rev-parse", "HEAD")
    changes = _git(file.parent, "status", "--porcelain", "--", ":/", ":(top,exclude)experiments/results")
    return commit, None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments], cwd=folder, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _machine(device: torch.device) -> dict[str, str | int | float]:
    machine: dict[str, str | int | float] = {
        "CPU": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
    }
    if hasattr(os, "sysconf"):
        machine["memory GiB"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    if device.type == "cuda":
        machine["GPU"] = torch.cuda.get_device_name(device)
        machine["TF32 convolutions"] = "on" if torch.backends.cudnn.allow_tf32 else "off"
    return machine


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions(device: torch.device) -> dict[str, str]:
    versions = {"python": platform.python_version(), "supermix_pl": supermix_pl.__version__}
    versions |= {"torch": str(torch.__version__), "torchvision": importlib.metadata.version("torchvision")}
    if device.type == "cuda":
        versions |= {"CUDA": torch.version.cuda or "none", "cuDNN": str(torch.backends.cudnn.version())}
    return versions
