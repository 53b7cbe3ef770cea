"""What the series of the scaling vary, and the command end to end."""

from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from supermix_pl import SuperMix
from supermix_pl.experiments.bench.scaling.__main__ import main
from supermix_pl.experiments.bench.scaling.series import points
from supermix_pl.experiments.shared.mixers import FAST, PAPER
from tests.experiments.bench.small import CLASSES, SMALL, written
from tests.experiments.figures.figures_toys import subject

MIXER = SuperMix(max_steps=3, pairing="distinct")


def test_a_series_varies_one_thing() -> None:
    by_k = points(MIXER, "k", [2, 4], 8)
    assert [(point.value, point.name) for point in by_k] == [(2, PAPER), (2, FAST), (4, PAPER), (4, FAST)]
    assert [point.mixer for point in by_k[2:]] == [replace(MIXER, k=4), SuperMix.fast(k=4)]
    assert {(point.batch_size, point.sets, point.size) for point in by_k} == {(8, 8, None)}
    side = SuperMix.fast().sigma * 16 / max(SuperMix.fast().mask_grid)
    masks = points(MIXER, "mask_size", [16], 8)
    assert [point.mixer for point in masks] == [
        replace(MIXER, mask_size=16, sigma=2.0),
        SuperMix.fast(mask_size=16, sigma=side),
    ]
    batches = points(MIXER, "batch", [4, 12], 8)
    assert [(point.batch_size, point.sets) for point in batches] == [(4, 8), (4, 8), (12, 12), (12, 12)]
    (point, _) = points(MIXER, "size", [12], 4)
    (batch,) = point.batches(subject())
    assert batch[0].shape == (4, 3, 12, 12)
    (batch,) = by_k[0].batches(subject(8))
    assert torch.equal(batch[0], subject(8).images)


def test_end_to_end(tmp_path: Path, unchecked: None) -> None:
    few = ["bench.k=[2,3]", "bench.batch=[4,8]", "bench.sets=8", "bench.max_steps=1"]
    few += ["bench.seeds=[5]", "bench.vary=[k,batch]"]
    main([*SMALL, CLASSES, *few, f"bench.folder={tmp_path}"])
    text, content = written(tmp_path)
    rows = {(row["variable"], row["value"], row["mixer"]): row for row in content["rows"]}
    values = {"k": [2, 3], "batch": [4, 8]}
    assert list(rows) == [(name, value, mixer) for name in values for value in values[name] for mixer in (PAPER, FAST)]
    for mixer in (PAPER, FAST):
        base = [seed["solved"] for seed in rows["k", 2, mixer]["seeds"]]
        assert [seed["solved"] for seed in rows["batch", 8, mixer]["seeds"]] == base
        peaks = [rows[key]["peak_bytes"] for key in (("batch", 4, mixer), ("k", 2, mixer), ("k", 3, mixer))]
        assert peaks == sorted(peaks)
    assert "### Against sources in a set, k" in text
    assert content["provenance"]["seeds"] == [5]
    with Image.open(next(tmp_path.glob("*.png"))) as picture:
        assert picture.width > 1000
