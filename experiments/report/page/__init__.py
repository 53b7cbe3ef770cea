"""`supermix-report html RUNS`: a sweep on one page that needs no other file."""

from supermix_pl.experiments.report.page.command import main

__all__ = ["main"]
