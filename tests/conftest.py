"""Shared by all tests: one thread, the folder of real data, and shapes checked at run time, but in `make test`.

These checks take a fifth of the time. `make test-slow` has them, and pytest by itself.
"""

from pathlib import Path

import pytest
import yaml
from jaxtyping import config as jaxtyping_config
from jaxtyping import install_import_hook

yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # composes configs a fifth faster
WHOLE = ("experiments", "integration")  # folders of whole runs; the shape checks are for the tests of each room


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("markexpr") != "not slow":
        install_import_hook("supermix_pl", "tests.checked")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Take back the threads that a test, or a program that it ran, has set: two workers share the cores."""
    import torch  # takes seconds, which the process that hands out the tests can spare

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
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)


@pytest.fixture(autouse=True)
def _as_at_a_users(request: pytest.FixtureRequest) -> None:
    if request.path.relative_to(Path(__file__).parent).parts[0] in WHOLE:
        request.getfixturevalue("unchecked")
