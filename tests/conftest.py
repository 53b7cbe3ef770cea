"""Shared by all tests: one thread, shapes checked at run time, the folder of real data."""

from pathlib import Path

import pytest
import torch
from jaxtyping import config, install_import_hook

_hook = install_import_hook("supermix_pl", "tests.checked")

torch.set_num_threads(1)
WHOLE = ("experiments", "integration")  # folders of whole runs; the shape checks are for the tests of each room


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


@pytest.fixture(autouse=True)
def _as_at_a_users(request: pytest.FixtureRequest) -> None:
    if request.path.relative_to(Path(__file__).parent).parts[0] in WHOLE:
        request.getfixturevalue("unchecked")
