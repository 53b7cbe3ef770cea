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


@pytest.mark.parametrize("command", [cli.train, cli.generate])
def test_help_lists_what_can_be_chosen_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: Callable[[], None]
) -> None:
    monkeypatch.setattr(sys, "argv", ["supermix", "--help"])
    command()
    choices = [line.split("= ") for line in capsys.readouterr().out.splitlines() if "=  " in line]
    assert {"logger", "mixes", "teacher"} <= {group for group, _ in choices}
    assert "bench" not in dict(choices)
    assert not [group for group, names in choices if "base" in names.split()]


def test_every_method_has_a_line_of_its_own_in_the_help() -> None:
    lines = [text for _, text in cli._methods()]
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize("command", [cli.train, cli.generate])
def test_null_for_a_group_is_refused_with_its_choices(
    monkeypatch: pytest.MonkeyPatch, command: Callable[[], None]
) -> None:
    monkeypatch.setattr(sys, "argv", ["supermix", "seed=1", "mixer=null"])
    with pytest.raises(SystemExit, match=r"expected mixer= with one of cutmix, .*none, .*supermix_fast, got null"):
        command()
