"""Work in a child process that is killed at a chosen moment, and on a disk that is full."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[int], object]]:
    """Let a folder be a disk of 64 KiB in the memory; yield what sets its size, in KiB. Skip a test that may not."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    try:
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("needs the right to mount")
    except FileNotFoundError:
        pytest.skip("needs mount")
    try:
        yield lambda size: subprocess.check_call(["mount", "-o", f"remount,size={size}k", str(folder)])
    finally:
        subprocess.check_call(["umount", str(folder)])


def in_child(work: Callable[[int], None], alive: tuple[int, float] | None) -> int:
    """Do work in a process of its own, killed after so many bytes told and seconds; return its status.

    Args:
        work: Gets a pipe, to which it writes a byte whenever a step starts.
        alive: Steps that are started, 0 for none, and seconds from then on; None to let it end.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            work(writing)
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    started = 0
    while alive is None or started < alive[0]:
        if not os.read(reading, 1):
            break
        started += 1
    else:
        time.sleep(alive[1])
        os.kill(child, signal.SIGKILL)
    os.close(reading)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
