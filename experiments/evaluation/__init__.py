"""Measure a trained student beyond its accuracy: calibration, an attack, common corruptions."""

from supermix_pl.experiments.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from supermix_pl.experiments.evaluation.robustness import Robustness, fgsm, quality, scores
