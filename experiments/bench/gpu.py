"""Check and time everything on a GPU: `python -m supermix_pl.experiments.bench.gpu --help`.

Checks that the device gives the mixes that it should, with the teacher's labels of exactly what is shown, then times
training steps with the teacher's passes compiled and not. Prints two tables and writes them to gpu_<device>.md and
.json. Ends with 1 where something failed.
"""

import gc
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from supermix_pl.experiments.bench import gpu_arguments, gpu_report, output, provenance
from supermix_pl.experiments.bench.gpu_checks import Check, run_checks
from supermix_pl.experiments.bench.gpu_numbers import Steps, training_steps
from supermix_pl.experiments.quiet import quiet_lightning

PROGRAM = "supermix_pl.experiments.bench.gpu"


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
        tables=gpu_report.tables(checks, results),
        content={"checks": [asdict(check) for check in checks], "steps": [steps.content() for steps in results]},
    )
    if any(steps.error for steps in results) or not all(check.passed for check in checks):
        sys.exit(1)


def measure(options: Namespace, device: torch.device, start: float) -> list[Steps]:
    """Time one network after the other, as far as the time goes."""
    results = []
    for name in options.networks if "steps" in options.parts else []:
        opened = None
        for size in options.batch_sizes:
            for passes in options.passes:
                if time.perf_counter() - start > 60 * options.minutes:
                    return results
                opened = opened or gpu_arguments.open_for(options, name)
                results.append(training_steps(opened, size, options.effort, compiled=passes == "compiled"))
                _say(start, f"{name}, {size} images, {passes}: {results[-1].error or 'done'}")
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
