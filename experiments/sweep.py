"""Around a sweep: folders are named by what it sweeps, failed jobs are told of, its end says how to see its runs."""

import logging
import shlex
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict, read_write

from supermix_pl.experiments.resolvers import ALWAYS_NAMED

_log = logging.getLogger(__name__)


class NameFolders(Callback):
    """Hydra's callback for `hydra.callbacks`: jobs are not named by what all of them share."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Tell the jobs, in Hydra's own list, which keys of the command line are left out of their folders' names."""
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        shared = [each.get_key_element() for each in overrides if not each.is_sweep_override()]
        quoted = ",".join(f"'{key}'" for key in shared if key not in ALWAYS_NAMED)
        with read_write(config.hydra), open_dict(config.hydra):  # jobs are composed anew, from this list
            config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys=[{quoted}]")


class NameFailures(Callback):
    """Hydra's callback for `hydra.callbacks`."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Name a job that failed where it did: at the end of a sweep Hydra tells of the first alone."""
        if job_return.status is JobStatus.FAILED and config.hydra.mode is RunMode.MULTIRUN:
            _log.error("failed: %s: %s", config.hydra.runtime.output_dir, job_return._return_value)


class ShowReport(NameFailures):
    """The same for sweeps of trainings."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        print(f"to see the runs: supermix-report {config.table or 'html'} {shlex.quote(config.hydra.sweep.dir)}")
