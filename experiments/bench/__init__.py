"""Benchmarks: `python -m supermix_pl.experiments.bench.NAME override=value ...`, with configs in conf/bench."""
