"""After a sweep, print the command that shows its runs."""

import shlex
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class ShowReport(Callback):
    """Hydra's callback for `hydra.callbacks`."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print which report is of these runs: their table's, or a page where they are in none."""
        print(f"to see the runs: supermix-report {config.table or 'html'} {shlex.quote(config.hydra.sweep.dir)}")
