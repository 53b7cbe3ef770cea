"""What a trained student is worth beyond its accuracy: calibration, an attack, common corruptions."""

from supermix_pl.experiments.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from supermix_pl.experiments.evaluation.robustness import Robustness, fgsm, quality, scores
