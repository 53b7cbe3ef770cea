"""The modules that the experiments train."""

from supermix_pl.experiments.tasks.classification import Classification
from supermix_pl.experiments.tasks.contrastive import ContrastiveDistillation
from supermix_pl.experiments.tasks.distillation import Distillation
