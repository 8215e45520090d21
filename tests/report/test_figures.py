"""Pictures: bytes, sizes, limits, and cases that must not fail."""

from io import BytesIO
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from darkpipe.report import figures
from darkpipe.report.canvas import Scale, new_page, place_image, plain, robust_limits, tick_labels
from darkpipe.science.flags import DQ
from darkpipe.science.metrics import accumulate


def png(page):
    out = BytesIO()
    figures.save_png(page, out)
    return out.getvalue()


def pixels_of(data):
    with Image.open(BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def dark():
    """A dark with noise, hot pixels and a corner without values."""
    random = np.random.default_rng(5)
    image = random.normal(200, 15, (128, 160)).astype(np.float32)
    image[random.random(image.shape) < 0.01] = 30_000
    image[:20, :30] = np.nan
    return image


@pytest.fixture(scope="module")
def rows():
    return [
        {
            "temperature_c": temperature,
            "exposure_s": exposure,
            "model": model,
            "mae_held_out_adu": 6.0 + exposure / 50,
            "mae_in_sample_adu": 5.5 + exposure / 60,
            "mae_baseline_adu": 7.0 + exposure / 40,
            "noise_floor_adu": 5.6,
            "pull_spread": 1.02,
            "median_relative_percent": 300 / exposure,
        }
        for temperature in (-10.0, 0.0)
        for exposure in (10.0, 300.0)
        for model in ("two_component", "exp_2d")
    ]


def every_figure(dark, rows):
    summary = accumulate(dark, 3.0, dark + 1, 3.0, False).summary()
    yield figures.error_map(np.abs(dark - 200), "MAE", "ADU", -10.0, 300.0, "held out", summary)
    yield figures.error_map(np.abs(dark - 200), "MAPE", "%", -10.0, 300.0, "in sample", summary)
    yield figures.dark_image(dark, -10.0, 300.0, subtitle="model exp_2d")
    yield figures.parameter_maps({"A": (dark, "ADU/s"), "C": (dark - 200, "ADU"), "gamma": (dark, "")})
    dq = np.where(dark > 1000, int(DQ.HOT), 0).astype(np.uint16)
    yield figures.hot_pixel_map(dq)
    yield figures.evaluation_summary(rows)
    yield figures.residual_map(dark - 200, -10.0, 300.0, subtitle="exp_2d, in sample")
    yield figures.glow_map(np.where(dark[::4, ::4] > 250, 0.9, 0.1), dark[::4, ::4] > 250, 4, dark.shape)
    yield figures.hot_pixel_curve(dark, 0.0, 300.0)
    yield figures.bias_levels([{"level_adu": 1000.0 + k, "temperature_c": -5.0 * (k % 2)} for k in range(5)])
    pixel = {
        "label": "row 1, column 2",
        "temperature_c": [-10.0, -10.0, 0.0, 0.0],
        "exposure_s": [10.0, 300.0, 10.0, 300.0],
        "signal_adu": [-2.0, 50.0, 8.0, np.nan],
        "error_adu": [6.0, 8.0, 6.0, 9.0],
    }
    yield figures.dark_vs_exposure_and_temperature([pixel | {"curves": [(-10.0, [10.0, 300.0], [2.0, 50.0])]}])
    yield figures.dark_vs_inverse_temperature(
        [pixel | {"curves": [(300.0, [-10.0, 0.0], [50.0, 120.0])]}] * 6, across=2
    )


def test_the_same_numbers_give_the_same_bytes(dark, rows):
    first = [png(page) for page in every_figure(dark, rows)]
    second = [png(page) for page in every_figure(dark, rows)]
    assert first == second
    for data in first:
        with Image.open(BytesIO(data)) as picture:
            assert picture.format == "PNG"
            assert set(picture.info) <= {"dpi"}
            assert picture.mode == "P"


def test_no_text_leaves_the_page(dark, rows):
    for page in every_figure(dark, rows):
        picture = pixels_of(png(page))
        edge = np.concatenate([picture[:2].reshape(-1, 3), picture[-2:].reshape(-1, 3), picture[:, :2].reshape(-1, 3)])
        edge = np.concatenate([edge, picture[:, -2:].reshape(-1, 3)])
        assert edge.min() > 250, page


def test_writes_to_a_path(tmp_path, dark):
    page = figures.dark_image(dark, -10.0, 300.0)
    figures.save_png(page, tmp_path / "dark.png")
    assert (tmp_path / "dark.png").read_bytes() == png(page)


def test_threads_draw_the_same(dark):
    wanted = png(figures.dark_image(dark, -10.0, 300.0))
    found = []
    threads = [Thread(target=lambda: found.append(png(figures.dark_image(dark, -10.0, 300.0)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 4


def test_pixels_stand_where_they_belong():
    """Row 0 at the bottom, magnified by a whole factor, no pixel lost; no value is pink."""
    image = np.zeros((4, 8), np.float32)
    image[0, 0], image[3, 7], image[1, 2] = 100, 100, np.nan
    scale = Scale(0, 100, "gray")
    page = new_page(200, 120)
    place_image(page, scale.paint(image), (4, 8), 30, 20, (160, 80))
    picture = pixels_of(png(page))
    assert (picture[20 + 65 : 20 + 78, 32:48] > 250).all()
    assert (picture[22:38, 30 + 143 : 30 + 158] > 250).all()
    assert (picture[20 + 42 : 20 + 58, 30 + 62 : 30 + 78] < 8).all()
    pink = picture[20 + 42 : 20 + 58, 30 + 42 : 30 + 58]
    assert np.abs(pink - [214, 39, 110]).max() <= 4


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 3.0, -7.5, 1e-9, 65535.0])
@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (50, 40)])
def test_degenerate_images_are_drawn(value, shape):
    image = np.full(shape, value)
    for page in (
        figures.dark_image(image, 0.0, 1.0),
        figures.error_map(np.abs(image), "MAE", "ADU", 0.0, 1.0, "new", {}),
        figures.parameter_maps({"A": (image, "ADU/s")}),
    ):
        assert png(page)[:4] == b"\x89PNG"


def test_limits_ignore_hot_pixels_and_nan(dark):
    low, high = robust_limits(dark, 1, 98)
    assert 150 < low < 200 < high < 260
    assert robust_limits(np.full(3, np.nan)) == (0.0, 1.0)
    low, high = robust_limits(np.full(5, 7.0))
    assert low < high


def test_special_pixels_are_counted():
    dq = np.zeros((100, 100), np.uint16)
    dq[3, 4] = DQ.HOT | DQ.UNSTABLE
    dq[5, 6] = DQ.HOT
    legend = figures.hot_pixel_map(dq).legends[0]
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["hot: 2 (0.02 %)", "unstable: 1 (0.01 %)", "none: 9,998"]


def test_a_large_image_is_reduced_and_says_so(dark):
    page = figures.dark_image(np.tile(dark, (12, 10)), -10.0, 300.0)
    texts = " ".join(text.get_text() for text in page.texts)
    assert "mean of 4 × 4 pixels" in texts
    assert f"{20 * 30 * 120:,} pixels without a value" in texts
    assert max(page.get_size_inches() * page.dpi) < 900


@pytest.mark.parametrize(("temperatures", "exposures"), [(1, 1), (1, 4), (25, 4), (10, 10), (100, 1)])
def test_the_evaluation_page_takes_one_to_a_hundred_cells(temperatures, exposures):
    rows = [
        {"temperature_c": -40.0 + t, "exposure_s": 2.0**e, "mae_held_out_adu": 3.0 + t, "noise_floor_adu": 2.0}
        for t in range(temperatures)
        for e in range(exposures)
    ]
    page = figures.evaluation_summary(rows)
    assert len(page.axes) == 4
    assert png(page)[:4] == b"\x89PNG"


def test_the_evaluation_page_bears_missing_numbers():
    rows = [
        {
            "temperature_c": 0.0,
            "exposure_s": 10.0,
            "model": "exp_2d",
            "mae_in_sample_adu": 3.0,
            "noise_floor_adu": None,
        },
        {"temperature_c": 0.0, "exposure_s": 20.0, "mae_held_out_adu": float("nan")},
    ]
    page = figures.evaluation_summary(rows)
    assert "in sample" in page.axes[1].get_ylabel()
    assert png(page)


def test_nothing_to_draw_is_an_error():
    for make in (figures.evaluation_summary, figures.bias_levels, figures.dark_vs_exposure_and_temperature):
        with pytest.raises(ValueError, match="to draw"):
            make([])
    with pytest.raises(ValueError, match="image"):
        figures.dark_image(np.zeros(5), 0.0, 1.0)
    with pytest.raises(ValueError, match="maps"):
        figures.parameter_maps({})


def test_numbers_as_people_write_them():
    assert plain(148512.0) == "148,512"
    assert plain(-3.4) == "−3.4"
    assert plain(0.012349) == "0.01235"
    assert plain(float("nan")) == "none"
    assert tick_labels([0.0, 0.05, 0.1]) == ["0.00", "0.05", "0.10"]
    assert tick_labels([-500.0, 0.0, 2500.0]) == ["−500", "0", "2,500"]


def test_one_activation_energy_is_a_straight_line_against_inverse_temperature():
    temperature = np.linspace(-20.0, 10.0, 7)
    signal = 5e3 * np.exp(-0.6 / 8.617e-5 * (1 / (temperature + 273.15) - 1 / 273.15))
    pixel = {"label": "", "temperature_c": temperature, "exposure_s": np.full(7, 60.0), "signal_adu": signal,
             "error_adu": np.full(7, 0.1), "curves": [(60.0, temperature, signal)]}  # fmt: skip
    page = figures.dark_vs_inverse_temperature([pixel])
    axes = page.axes[0]
    line = next(line for line in axes.get_lines() if line.get_linestyle() == "-" and len(line.get_xdata()) == 7)
    points = axes.transData.transform(np.column_stack([line.get_xdata(), line.get_ydata()]))
    away = points[:, 1] - np.polyval(np.polyfit(*points.T, 1), points[:, 0])
    assert np.abs(away).max() < 1.0  # pixels of the page
    assert points[0, 0] < points[-1, 0]  # warm to the right
