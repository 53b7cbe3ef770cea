import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from supermix_pl.experiments.data import shapes
from supermix_pl.experiments.data.shape_drawing import CLASS_NAMES, Poses, coverage, signed_distance
from supermix_pl.experiments.data.shapes import MEAN, STD, draw_shapes


@pytest.fixture(scope="module")
def drawn():
    return draw_shapes(1000, seed=3)


def test_images_and_labels_have_the_promised_types(drawn):
    assert drawn.images.shape == (1000, 3, 32, 32)
    assert drawn.images.dtype == torch.uint8
    assert drawn.labels.shape == (1000,)
    assert drawn.labels.dtype == torch.int64


def test_pixels_use_the_whole_range_and_agree_with_mean_and_std(drawn):
    assert drawn.images.min() == 0
    assert drawn.images.max() == 255
    pixels = drawn.images.double() / 255
    torch.testing.assert_close(pixels.mean((0, 2, 3)), torch.tensor(MEAN).double(), atol=0.015, rtol=0)
    torch.testing.assert_close(pixels.std((0, 2, 3)), torch.tensor(STD).double(), atol=0.015, rtol=0)


@pytest.mark.parametrize("count", [1, 100, 137])
def test_an_image_depends_on_seed_and_index_only(drawn, count):
    part = draw_shapes(count, seed=3)
    for name in ("images", "labels"):
        assert torch.equal(getattr(part, name), getattr(drawn, name)[:count])


def test_seeds_and_blocks_differ(drawn):
    other = draw_shapes(100, seed=4)
    assert not (other.images == drawn.images[:100]).flatten(1).all(1).any()
    assert not torch.equal(other.labels, drawn.labels[:100])
    assert len(drawn.images.flatten(1).unique(dim=0)) == 1000


def test_every_ten_images_hold_each_class_once(drawn):
    assert len(CLASS_NAMES) == 10
    assert torch.equal(drawn.labels.view(100, 10).sort().values, torch.arange(10).expand(100, 10))


def test_without_its_object_an_image_changes_in_one_place(monkeypatch):
    with_object = draw_shapes(200, seed=5)
    draw = shapes.coverage

    def without_object(labels, poses, variation, size):
        opacity = draw(labels, poses, variation, size)
        is_object = poses.radius.min() > 0.2 * size
        return np.zeros_like(opacity) if is_object else opacity

    monkeypatch.setattr(shapes, "coverage", without_object)
    background = draw_shapes(200, seed=5)
    assert torch.equal(background.labels, with_object.labels)
    changed = (with_object.images.int() - background.images.int()).abs().sum(1) > 60
    shares = changed.flatten(1).float().mean(1)
    assert 0.03 < shares.min() < shares.max() < 0.5


def _box(visible: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(visible)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def _upright(size: int, **changes) -> Poses:
    pose = {"centre": (size / 2, size / 2), "radius": size / 2.2, "angle": 0.0, "squeeze": 1.0} | changes
    return Poses(**{name: np.array([value], np.float32) for name, value in pose.items()})


def _star(radius: float) -> list[tuple[float, float]]:
    angles = np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2, radius, 1)
    return [(float(r * np.cos(a)), float(r * np.sin(a))) for r, a in zip(radii, angles, strict=True)]


@pytest.mark.parametrize(
    ("name", "corners"),
    [
        ("disk", [(0.93 * np.cos(a), 0.93 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 200)]),
        ("square", [(-0.7, -0.7), (0.7, -0.7), (0.7, 0.7), (-0.7, 0.7)]),
        ("triangle", [(0, -1), (0.866, 0.5), (-0.866, 0.5)]),
        ("star", _star(0.4)),
        ("hourglass", [(-0.65, -0.77), (0.65, -0.77), (0.07, 0), (0.65, 0.77), (-0.65, 0.77), (-0.07, 0)]),
    ],
)
def test_outlines_agree_with_polygons_of_pillow(name, corners):
    size, scale = 512, 512 / 2.2
    drawing = Image.new("1", (size, size))
    ImageDraw.Draw(drawing).polygon([(size / 2 + scale * x, size / 2 + scale * y) for x, y in corners], fill=1)
    expected = np.asarray(drawing)
    actual = coverage(np.array([CLASS_NAMES.index(name)]), _upright(size), np.zeros(1, np.float32), size)[0] > 0.5
    assert (actual & expected).sum() / (actual | expected).sum() > 0.97


@pytest.mark.parametrize("variation", [-1, 0, 1])
def test_every_outline_is_one_of_a_kind_and_fits_the_unit_circle(variation):
    grid = np.linspace(-1.5, 1.5, 121, dtype=np.float32)
    x, y = (np.repeat(a[None], 10, axis=0) for a in np.meshgrid(grid, grid))
    inside = signed_distance(np.arange(10), x, y, np.full(10, variation, np.float32)) < 0
    assert not inside[np.hypot(x, y) > 1.04].any()
    overlap = np.einsum("ihw,jhw->ij", inside, inside, dtype=np.int64)
    union = overlap.diagonal()[:, None] + overlap.diagonal() - overlap
    assert (overlap.diagonal() > 1000).all()
    assert ((overlap / union)[~np.eye(10, dtype=bool)] < 0.85).all()


def test_poses_move_turn_and_stretch_an_outline():
    crescent, no_variation = np.array([CLASS_NAMES.index("crescent")]), np.zeros(1, np.float32)

    def box(**changes):
        return _box(coverage(crescent, _upright(64, radius=16, **changes), no_variation, 64)[0] > 0.5)

    x0, y0, x1, y1 = box()
    assert x1 - x0 < y1 - y0
    np.testing.assert_allclose(box(centre=(37, 27)), [x0 + 5, y0 - 5, x1 + 5, y1 - 5])
    np.testing.assert_allclose(box(angle=np.pi / 2), [64 - y1, x0, 64 - y0, x1], atol=1)
    longer = box(squeeze=1.25)
    assert longer[2] - longer[0] > x1 - x0
    assert longer[3] - longer[1] < y1 - y0


@pytest.mark.parametrize("size", [16, 33, 64])
def test_other_sizes_are_drawn_in_proportion(size):
    data = draw_shapes(200, seed=0, size=size)
    assert data.images.shape == (200, 3, size, size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0, "seed": 0}, "expected count to be an integer >= 1, got 0"),
        ({"count": 1, "seed": -1}, "expected seed to be an integer >= 0, got -1"),
        ({"count": 1, "seed": 0, "size": 15}, "expected size to be an integer >= 16, got 15"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_shapes(**arguments)
