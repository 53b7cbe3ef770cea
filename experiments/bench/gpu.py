"""Check and time everything on a GPU: `python -m supermix_pl.experiments.bench.gpu --help`.

Checks that the device gives the mixes that it should, then takes the numbers of the other benchmarks in short for the
paper's teachers. Prints two tables and writes them to gpu_<device>.md and .json. Ends with 1 where something failed.
"""

import gc
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from supermix_pl.experiments.bench import gpu_arguments, gpu_numbers, gpu_report, output, provenance
from supermix_pl.experiments.bench.gpu_checks import Check, run_checks
from supermix_pl.experiments.bench.gpu_numbers import Effort, Numbers
from supermix_pl.experiments.bench.gpu_subjects import Opened
from supermix_pl.experiments.quiet import quiet_lightning

PROGRAM = "supermix_pl.experiments.bench.gpu"
_PARTS: dict[str, Callable[[Opened, Effort], Numbers]] = {
    "accepted": gpu_numbers.accepted,
    "walltime": gpu_numbers.wall_time,
    "step": gpu_numbers.training_step,
    "precision": gpu_numbers.low_precision,
    "largest": gpu_numbers.largest_batch,
}


def main(command_line: Sequence[str] | None = None) -> None:
    """Check, measure, print and write."""
    start = time.perf_counter()
    command_line = sys.argv[1:] if command_line is None else command_line
    options = gpu_arguments.parse(command_line, PROGRAM)
    torch.set_num_threads(options.threads)
    device, folder = torch.device(options.device), Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    origin = provenance.collect(PROGRAM, command_line, seeds=[0], device=device)
    checks: list[Check] = []
    with quiet_lightning():
        if "checks" in options.parts:
            for check in run_checks(gpu_arguments.open_for(options)):
                checks.append(check)
                _say(start, f"{'passed' if check.passed else 'FAILED'}: {check.name}: {check.found}")
        results = measure(options, device, start)
    seconds = time.perf_counter() - start
    output.publish(
        folder / f"gpu_{device.type}",
        title="On a GPU" if device.type == "cuda" else "The GPU's benchmark on a CPU",
        origin=origin,
        settings=output.settings(options, "output", "checkpoints", "folders", "effort"),
        remark=f"All in one process, one after the other, in {seconds:.0f} s.",
        tables=gpu_report.tables(checks, results, {name: name in options.checkpoints for name in options.networks}),
        content={"checks": [asdict(check) for check in checks], "results": results, "effort": asdict(options.effort)},
    )
    errors = [numbers["error"] for parts in results.values() for numbers in parts.values() if "error" in numbers]
    if errors or not all(check.passed for check in checks):
        sys.exit(1)


def measure(options: Namespace, device: torch.device, start: float) -> dict[str, dict[str, Numbers]]:
    """Take all numbers of a network after the other, as far as the time goes; an error is kept in their place."""
    parts = {name: part for name, part in _PARTS.items() if name in options.parts}
    results: dict[str, dict[str, Numbers]] = {name: {} for name in options.networks} if parts else {}
    for name in results:
        opened: Any = None
        for part, function in parts.items():
            if time.perf_counter() - start > 60 * options.minutes:
                return results
            try:
                opened = opened or gpu_arguments.open_for(options, name)
                results[name][part] = function(opened, options.effort)
            except Exception as error:  # the other numbers are still worth their time
                results[name][part] = {"error": f"{type(error).__name__}: {error}"}
            _say(start, f"{name}: {part}: {results[name][part].get('error', 'done')}")
            _free(device)
    return results


def _say(start: float, text: str) -> None:
    print(f"{time.perf_counter() - start:6.1f} s  {text}", file=sys.stderr, flush=True)


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
