"""The examples in the plugin's docstrings."""

import doctest
import importlib
import pkgutil

import supermix_pl


def test_examples_run() -> None:
    names = [module.name for module in pkgutil.walk_packages(supermix_pl.__path__, "supermix_pl.")]
    plugin = [name for name in names if not name.startswith(("supermix_pl.experiments", "supermix_pl.conf"))]
    results = [doctest.testmod(importlib.import_module(name)) for name in plugin]
    assert sum(result.attempted for result in results) > 0
    assert all(result.failed == 0 for result in results)
