"""The commands where the packages of the experiments are missing."""

import sys
from collections.abc import Callable

import pytest

from supermix_pl.experiments import cli


@pytest.mark.parametrize(
    ("command", "arguments", "missing"),
    [
        (cli.train, [], "hydra"),
        (cli.generate, [], "omegaconf"),
        (cli.report, ["table2", "nowhere"], "rich"),
    ],
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, command: Callable[[], None], arguments: list[str], missing: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["supermix", *arguments])
    held = [name for name in sys.modules if name.startswith("supermix_pl.experiments.") and name != cli.__name__]
    for name in [*held, *(name for name in sys.modules if name.partition(".")[0] == missing)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)  # importing it raises ModuleNotFoundError
    with pytest.raises(SystemExit) as raised:
        command()
    assert str(raised.value) == (
        f"expected the packages of the experiments, got no {missing}; install them with "
        "pip install 'supermix_pl[experiments]'"
    )
