"""Images of all depths as 8 bits, and errors that name the file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from supermix_pl.experiments.data.rgb import open_rgb

RAMP = np.linspace(0, 1, 256).reshape(16, 16)
GREY = (RAMP * 255).round().astype(np.uint8)


def saved(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["x.png", "x.tiff"])
@pytest.mark.parametrize("scale", [255, 65535])
def test_whole_ranges_become_whole_ranges(tmp_path: Path, name: str, scale: int) -> None:
    path = saved(tmp_path / name, (RAMP * scale).round().astype(np.uint8 if scale == 255 else np.uint16))
    for source in (path, path.read_bytes()):
        image = open_rgb(source, "x")
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), GREY[:, :, None].repeat(3, axis=2))


@pytest.mark.parametrize(("top", "warns"), [(0, False), (255, True), (4095, True), (4096, False)])
def test_images_of_fewer_bits_in_files_of_16_do_not_become_black_silently(
    tmp_path: Path, top: int, warns: bool
) -> None:
    path = saved(tmp_path / "x.png", (RAMP * top).astype(np.uint16))
    if warns:
        with pytest.warns(UserWarning, match="no value above 4095.*they come out black"):
            open_rgb(path, "x")
    else:
        open_rgb(path, "x")


@pytest.mark.parametrize(("kind", "said"), [(np.int32, "32-bit integers"), (np.float32, "floating point numbers")])
def test_pixels_whose_white_is_not_known_are_refused(tmp_path: Path, kind: type, said: str) -> None:
    path = saved(tmp_path / "x.tiff", (RAMP * 60000).astype(kind))
    with pytest.raises(ValueError, match=rf"8 or 16 bits a channel, got {said} .*up to 60000\) in place: which of"):
        open_rgb(path, "place")


def test_errors_of_all_kinds_name_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PngInfo()
    text.add_text("x", "a" * 2**21, zip=True)
    whole = saved(tmp_path / "x.png", GREY)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    (tmp_path / "folder.png").mkdir()
    for path, said in (
        (saved(tmp_path / "text.png", GREY, pnginfo=text), "too large"),
        (whole, "exceeds limit of 200 pixels"),
        (tmp_path / "folder.png", "directory"),
        (tmp_path / "none.png", "No such file"),
    ):
        with pytest.raises(ValueError, match=f"an image that Pillow can decode, got place: .*{said}"):
            open_rgb(path, "place")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="can decode, got 30 other bytes in place: "):
        open_rgb(whole.read_bytes()[:30], "place")
