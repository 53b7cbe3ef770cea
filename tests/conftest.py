"""Shared by all tests: one thread, shapes checked at run time, the folder of real data."""

from pathlib import Path

import pytest
import torch
from jaxtyping import config, install_import_hook

_hook = install_import_hook("supermix_pl", "tests.checked")

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and teachers beside a development checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the real data and teachers of {folder}, which are not part of the repository")
    return folder


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the shape checks off, as they are at a user's, so that the package's own words on bad input are heard."""
    monkeypatch.setattr(config, "jaxtyping_disable", True)
