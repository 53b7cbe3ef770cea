"""Around a sweep: its folders are named by what it sweeps; at its end it prints the command that shows its runs."""

import shlex
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write

from supermix_pl.experiments.resolvers import ALWAYS_NAMED


class NameFolders(Callback):
    """Hydra's callback for `hydra.callbacks`: jobs are not named by what all of them share."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Tell the jobs, in Hydra's own list, which keys of the command line are left out of their folders' names."""
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        shared = [each.get_key_element() for each in overrides if not each.is_sweep_override()]
        quoted = ",".join(f"'{key}'" for key in shared if key not in ALWAYS_NAMED)
        with read_write(config.hydra), open_dict(config.hydra):  # jobs are composed anew, from this list
            config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys=[{quoted}]")


class ShowReport(Callback):
    """Hydra's callback for `hydra.callbacks`."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        print(f"to see the runs: supermix-report {config.table or 'html'} {shlex.quote(config.hydra.sweep.dir)}")
