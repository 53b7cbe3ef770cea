"""The step's benchmark with the settings of conf/bench/gpu.yaml: on a GPU, compiled and not."""

from functools import partial

from supermix_pl.experiments.bench.program import run
from supermix_pl.experiments.bench.step import measure

main = partial(run, "gpu", measure)

if __name__ == "__main__":
    main()
