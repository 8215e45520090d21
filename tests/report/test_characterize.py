"""Pictures of a set of frames: shades where they belong, cases that must not fail."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from darkpipe.report.canvas import NO_VALUE, save_png
from darkpipe.report.characterize import before_and_after, chosen_points, set_statistics, stretched_image
from darkpipe.science.stretch import Stretch

ROWS, COLS = 90, 120


def drawn(page: Figure) -> np.ndarray:
    out = BytesIO()
    save_png(page, out)
    with Image.open(out) as picture:
        assert round(picture.info["dpi"][0]) == 150
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    random = np.random.default_rng(8)
    pattern = random.normal(1000, 4, (ROWS, COLS)) + 1e4 * (random.random((ROWS, COLS)) < 0.01)
    return np.rint(random.normal(pattern, 9.0, (7, ROWS, COLS))).astype(np.uint16)


def row(number: int, **values: float) -> dict[str, Any]:
    known = {"before_median_adu": 1000.0 + number, "before_sigma_adu": 12.0, "after_sigma_adu": 8.0,
             "expected_sigma_adu": 8.1, "before_hot": 50, "after_hot": 0}  # fmt: skip
    return {**known, **values}


def every_figure(frames: np.ndarray) -> list[Figure]:
    master = np.median(frames, axis=0).astype(np.float32)
    left = frames[2] - master
    stretch = chosen_points(master, "log", None, None)
    return [
        stretched_image(master, stretch, "Master dark, 30 s", "median of 7 frames", outline=(5, 25, 10, 60)),
        stretched_image(master, stretch, "Master dark, 30 s", "part", window=(5, 25, 10, 60)),
        stretched_image(left, chosen_points(left, "linear", None, None, about_zero=True), "Less the master", "a.fits"),
        before_and_after(frames[2], left, master, "a.fits", noise=9.0, frames=7, points=(990.0, 2000.0)),
        set_statistics([row(k) for k in range(7)], "7 frames"),
        set_statistics([row(k, after_sigma_adu=0.5) for k in range(200)], "200 frames"),
    ]


def test_the_same_numbers_give_the_same_picture_and_no_text_leaves_the_page(frames: np.ndarray) -> None:
    for first, second in zip(every_figure(frames), every_figure(frames), strict=True):
        picture = drawn(first)
        np.testing.assert_array_equal(picture, drawn(second))
        edges = (picture[:2], picture[-2:], picture[:, :2], picture[:, -2:])
        assert min(edge.min() for edge in edges) > 250


def test_shades_stand_where_they_belong() -> None:
    """Row 0 at the bottom; 256 shades between the points; NaN pink; magnified by a whole factor."""
    image = np.full((3, 4), 100.0, np.float32)
    image[0, 0], image[2, 3], image[1, 1] = 200.0, 150.0, np.nan
    picture = drawn(stretched_image(image, Stretch(100, 200, "linear"), "four", ""))
    inside = picture[120 : 120 + 3 * 256, 110 : 110 + 4 * 256]
    middles = inside[128::256, 128::256]
    assert middles.shape[:2] == (3, 4)
    assert np.abs(middles[2, 0] - 255).max() <= 3
    assert np.abs(middles[0, 3] - 128).max() <= 4
    assert np.abs(middles[0, 0]).max() <= 3
    assert np.abs(middles[1, 1] - np.array(NO_VALUE)).max() <= 6


def test_a_window_shows_its_own_pixels() -> None:
    image = np.zeros((50, 60), np.float32)
    image[20, 30] = 1000.0
    whole = drawn(stretched_image(image, Stretch(0, 1000, "linear"), "t", window=(20, 23, 30, 33)))
    inside = whole[120 : 120 + 1023, 110 : 110 + 1023]
    assert inside[850, 170].min() > 250  # the first pixel of the window, at the lower left
    assert inside[170, 170].max() < 5


@pytest.mark.parametrize("kind", ["log", "linear"])
@pytest.mark.parametrize(
    "image",
    [
        np.full((9, 9), 65535, np.uint16),
        np.zeros((9, 9)),
        np.full((9, 9), np.nan),
        np.full((1, 9), -3.5),
        np.where(np.eye(9) > 0, np.nan, 7.0),
    ],
    ids=["saturated", "zero", "nan", "negative", "diagonal"],
)
def test_images_without_contrast_can_be_drawn(image: np.ndarray, kind: Any) -> None:
    stretch = chosen_points(image, kind, None, None)
    drawn(stretched_image(image, stretch, "flat"))
    drawn(before_and_after(image, image, image, "flat"))


def test_points_that_are_not_given_come_from_the_image(frames: np.ndarray) -> None:
    found = chosen_points(frames[0], "linear", None, None)
    low, high = np.percentile(frames[0], [0.5, 99.5])
    assert low - 1 <= found.black <= low
    assert high <= found.white <= high * 1.1
    assert chosen_points(frames[0], "log", 5.0, None).black == 5.0
    assert chosen_points(frames[0], "log", None, None, margin=30.0).black <= low - 30
    about = chosen_points(frames[0] - 1000.0, "linear", None, None, about_zero=True)
    assert about.black == -about.white
    with pytest.raises(ValueError, match=r"must lie below .* \(from the frames: white point 1\d+\)"):
        chosen_points(frames[0], "log", 1e6, None)


def test_what_is_expected_of_a_median_is_drawn_over_what_is_found() -> None:
    """The line of the expectation follows the histogram, with its peak at nothing left."""
    random = np.random.default_rng(3)
    frames = np.rint(random.normal(1000, 30, (5, 300, 300))).astype(np.uint16)
    master = np.median(frames, axis=0).astype(np.float32)
    page = before_and_after(frames[0], frames[0] - master, master, "a", noise=30.0, frames=5)
    found, expected = (patch.get_data() for patch in page.axes[1].patches[:2])
    np.testing.assert_array_equal(found.edges, expected.edges)
    bins = (found.edges[:-1] > -60) & (found.edges[1:] < 60)
    ratio = found.values[bins] / expected.values[bins]
    assert np.abs(ratio - 1).max() < 0.2
    assert found.values.argmax() == expected.values.argmax()
    assert expected.values.max() > 5 * np.median(expected.values[bins])


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="needs an image"):
        stretched_image(np.zeros((4, 4)), Stretch(0, 9), "t", window=(2, 2, 0, 4))
    with pytest.raises(ValueError, match="no frames"):
        set_statistics([], "t")
