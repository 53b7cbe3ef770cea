"""The Hydra configs of the experiments; other apps reach them with `hydra.searchpath=[pkg://supermix_pl.conf]`."""
