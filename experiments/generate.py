"""`supermix-generate`: makes a fixed data set of mixes, as the paper does before it trains.

By `SuperMix.fast` where no mixer is chosen: masks that are solved under the views that the training will show, which is
what `mixing.mixed_transform` says.
"""

import logging
import sys

import hydra
import torch
from omegaconf import DictConfig, open_dict

from supermix_pl import FrozenTeacher
from supermix_pl.experiments.building import build_data, build_mixes, build_teacher
from supermix_pl.experiments.checks import SettingsError, check_choices, check_settings, named_errors
from supermix_pl.experiments.mixes import Fixed, FixedMixes

_log = logging.getLogger(__name__)


@hydra.main(config_path="pkg://supermix_pl.conf", config_name="generate", version_base="1.3")
def main(config: DictConfig) -> None:
    """Mix the training images; a stopped run goes on where it was, several may share the work."""
    torch.set_float32_matmul_precision(config.matmul_precision)
    try:
        run(config)
    except SettingsError as error:
        sys.exit(f"supermix-generate: error: {error}")


def run(config: DictConfig) -> None:
    """Make what is missing of the mixes, and log how many hold."""
    with named_errors():
        if not config.mixer:
            with open_dict(config):
                config.mixer = {"_target_": "supermix_pl.SuperMix.fast"}
        check_settings(config)
        check_choices(config)
        datamodule = build_data(config)
        making = build_mixes(config, datamodule)
        if not isinstance(making, Fixed):
            raise SettingsError(f"expected mixes=fixed, which says how many to make, got {config.mixes}")
    teacher = build_teacher(config, datamodule)
    assert isinstance(teacher, FrozenTeacher)  # the choices are checked
    mixes = FixedMixes(making.make(teacher))
    holds, solved = (
        100 * sum(float(getattr(shard, name).sum()) for shard in mixes.shards) / len(mixes)
        for name in ("holds", "solved")
    )
    views = mixes.about["views"]
    _log.info(
        "%d mixes in %s, solved %s: %.1f %% hold under a fresh view, %.1f %% met the criterion in their last pass",
        *(len(mixes), mixes.folder, f"under {views}" if views else "on their exact pixels", holds, solved),
    )


if __name__ == "__main__":
    main()
