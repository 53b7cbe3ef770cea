"""`supermix-generate`: makes a fixed data set of mixes, as the paper does before it trains."""

import logging

import hydra
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from supermix_pl import FrozenTeacher
from supermix_pl.experiments.building import build_data, build_teacher, check_complete, make_mixes
from supermix_pl.experiments.mixes import FixedMixes

_log = logging.getLogger(__name__)


@hydra.main(config_path="pkg://supermix_pl.conf", config_name="generate", version_base="1.3")
def main(config: DictConfig) -> None:
    """Mix the training images; a stopped run goes on where it was, several may share the work."""
    torch.set_float32_matmul_precision(config.matmul_precision)
    check_complete(config)
    datamodule = build_data(config)
    teacher = build_teacher(config, datamodule)
    if not isinstance(teacher, FrozenTeacher) or not config.mixer:
        raise ValueError(
            "expected a trained teacher and a mixer, got "
            f"teacher={type(teacher).__name__ if teacher else 'none'} mixer={'one' if config.mixer else 'none'}: "
            "choose, for instance, teacher=checkpoint mixer=supermix"
        )
    mixes = FixedMixes(make_mixes(config, teacher, instantiate(config.mixer), datamodule, config.folder))
    solved = sum(float(shard.solved.sum()) for shard in mixes.shards) / len(mixes)
    _log.info("%d mixes in %s, %.1f %% of them solved", len(mixes), mixes.folder, 100 * solved)


if __name__ == "__main__":
    main()
