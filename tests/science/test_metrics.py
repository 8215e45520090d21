"""Sums over tiles against plain numpy."""

import itertools
import json
import math

import numpy as np
import pytest

from darkpipe.science import metrics
from darkpipe.science.metrics import CellErrors, ErrorCounts, accumulate, class_names, errors_of, fill, sparse
from darkpipe.science.metrics_kernel import Planes, count_pixel, count_pixels, new_tally


@pytest.fixture(scope="module")
def scene():
    """A made-up cell with hot pixels, NaN and flags: prediction, its error, reference, its error, flagged."""
    random = np.random.default_rng(7)
    shape = (181, 157)
    truth = random.exponential(120.0, shape) + np.where(random.random(shape) < 0.02, random.gamma(1, 3000, shape), -20)
    error = (5.0 + 0.01 * np.abs(truth)).astype(np.float32)
    own = np.full(shape, 2.0, np.float32)
    reference = (truth + error * random.normal(size=shape)).astype(np.float32)
    prediction = (truth + 2.0 * random.normal(size=shape)).astype(np.float32)
    prediction[random.random(shape) < 0.01] = np.nan
    reference[random.random(shape) < 0.01] = np.nan
    error[3, :40] = np.nan
    own[5, :40] = np.nan
    return prediction, own, reference, error, random.random(shape) < 0.05


def plain(scene, select=None):
    """The same figures by numpy in double precision."""
    prediction, own, reference, error, _flagged = (item.astype(np.float64) for item in scene)
    keep = np.isfinite(prediction) & np.isfinite(reference)
    if select is not None:
        keep &= select
    e = (prediction - reference)[keep]
    error, own, reference = error[keep], own[keep], reference[keep]
    strong = reference > 5 * error
    pull = (e / np.hypot(error, own))[np.isfinite(error) & np.isfinite(own)]
    return {
        "n_pixels": e.size,
        "mae_adu": np.abs(e).mean(),
        "mape_percent": 100 * (np.abs(e) / reference)[strong].mean(),
        "mape_fraction": strong.mean(),
        "median_relative_percent": 100 * np.median((np.abs(e) / reference)[strong]),
        "rmse_adu": math.sqrt((e**2).mean()),
        "median_error_adu": np.median(e),
        "mean_error_adu": e.mean(),
        "pull_median": np.median(pull),
        "pull_spread": 1.4826022 * np.median(np.abs(pull - np.median(pull))),
        "pull_interval_68": np.diff(np.quantile(pull, [0.158655, 0.841345]))[0] / 2,
        "pull_outlier_fraction": (np.abs(pull) > 5).mean(),
        "noise_floor_adu": math.sqrt(2 / math.pi) * np.nanmean(error),
        "expected_mae_adu": math.sqrt(2 / math.pi) * np.nanmean(np.hypot(error, own)),
    }


INTERPOLATED = {  # bin widths: 1/128 ADU at zero, 0.02 sigma, 1/1024 of the reference
    "median_error_adu": 1 / 128,
    "pull_median": 0.02,
    "pull_spread": 0.02,
    "pull_interval_68": 0.02,
    "median_relative_percent": 0.1,
}


@pytest.mark.parametrize("suffix", ["", "_unflagged"])
def test_summary_is_what_numpy_says(scene, suffix):
    found = accumulate(*scene).summary()
    for name, expected in plain(scene, ~scene[4] if suffix else None).items():
        head, _, unit = name.rpartition("_")
        key = f"{head}{suffix}_{unit}" if unit in ("adu", "percent") else f"{name}{suffix}"
        if name in INTERPOLATED:
            assert found[key] == pytest.approx(expected, abs=INTERPOLATED[name]), key
        else:
            assert found[key] == pytest.approx(expected, rel=1e-9, abs=2**-28), key


def test_classes_go_by_the_prediction(scene):
    found = accumulate(*scene, (300.0, 1000.0, 5000.0)).summary()
    prediction = scene[0]
    borders = [-np.inf, 300, 1000, 5000, np.inf]
    names = class_names()
    assert names == ("below_300", "300_to_1000", "1000_to_5000", "above_5000")
    for name, low, high in zip(names, borders, borders[1:], strict=False):
        for suffix, unflagged in (("", True), ("_unflagged", ~scene[4])):
            expected = plain(scene, (prediction >= low) & (prediction < high) & unflagged)
            assert found[f"n_{name}{suffix}"] == expected["n_pixels"] > 0
            assert found[f"mae_{name}{suffix}_adu"] == pytest.approx(expected["mae_adu"], rel=1e-9)
            assert found[f"noise_floor_{name}{suffix}_adu"] == pytest.approx(expected["noise_floor_adu"], rel=1e-9)
            assert found[f"pull_spread_{name}{suffix}"] == pytest.approx(expected["pull_spread"], abs=0.03)
    assert sum(found[f"n_{name}"] for name in names) == found["n_pixels"]


def test_classes_can_go_by_another_signal(scene):
    signal = np.where(scene[4], 400.0, 2.0).astype(np.float32)
    found = accumulate(*scene, class_signal=signal).summary()
    assert found["n_below_300"] == found["n_pixels_unflagged"]
    assert found["n_300_to_1000"] == found["n_pixels"] - found["n_pixels_unflagged"]


@pytest.mark.parametrize("edges", [(), (50.0,), (300.0, 1000.0, 5000.0)])
def test_tiles_add_up_to_the_last_digit(scene, edges):
    whole = accumulate(*scene, edges)
    rows = [0, 1, 17, 64, 130, 181]
    tiles = [accumulate(*(item[a:b] for item in scene), edges) for a, b in itertools.pairwise(rows)]
    forward = sum(tiles, CellErrors.empty(edges))
    backward = sum(reversed(tiles), CellErrors.empty(edges))
    assert forward == whole
    assert backward == whole
    assert json.dumps(forward.summary()) == json.dumps(whole.summary())


@pytest.mark.parametrize("most", [1 << 27, 3000])
def test_tiles_counted_into_one_memory_add_up(scene, most, monkeypatch):
    monkeypatch.setattr(metrics, "_MOST_A_TALLY", most)
    counts = ErrorCounts()
    for a, b in itertools.pairwise([0, 1, 17, 64, 130, 181]):
        counts.add(*(item[a:b] for item in scene))
    assert counts.errors() == accumulate(*scene)
    assert counts.errors() == accumulate(*scene)  # to ask changes nothing


def test_plain_data_say_all(scene):
    whole = accumulate(*scene)
    back = CellErrors.from_dict(whole.to_dict())
    assert back == whole
    assert json.dumps(back.summary()) == json.dumps(whole.summary())
    broken = whole.to_dict()
    broken["counts"] = broken["counts"][:-1]
    with pytest.raises(ValueError, match="classes"):
        CellErrors.from_dict(broken)


def test_mean_is_exact_over_sixteen_decades():
    e = np.array([1e-7, 3.0, 6e4, 1e9, -1e9, -6e4, 1e-7, -3.0])
    found = accumulate(e, 1.0, np.zeros(8), 1.0, False).summary()
    assert found["mean_error_adu"] == pytest.approx(2.5e-8, abs=2**-29)
    assert found["mae_adu"] == pytest.approx(np.abs(e).mean(), rel=1e-15)
    assert found["rmse_adu"] == pytest.approx(math.sqrt((e**2).mean()), rel=1e-12)
    assert found["pull_outlier_fraction"] == 0.5


def test_absurd_values_do_not_overflow():
    absurd = np.array([3e38, -3e38, 1.0], np.float32)
    found = accumulate(absurd, np.float32(1), np.zeros(3, np.float32), np.float32(1), False).summary()
    assert found["mae_adu"] == pytest.approx(2e12 / 3)
    assert found["mean_error_adu"] == pytest.approx(1 / 3)
    assert found["rmse_adu"] == pytest.approx(math.sqrt(2e24 / 3))
    assert found["median_error_adu"] == pytest.approx(1.0, abs=1 / 64)


def test_no_pixels_say_nan_not_zero():
    nothing = np.full((3, 4), np.nan, np.float32)
    found = accumulate(nothing, nothing, nothing, nothing, np.zeros((3, 4), bool)).summary()
    assert found["n_pixels"] == found["n_below_300"] == 0
    assert all(math.isnan(value) for key, value in found.items() if not key.startswith("n_"))


def test_perfect_pulls_have_unit_spread():
    random = np.random.default_rng(3)
    reference = random.normal(0.0, 6.0, 200_000).astype(np.float32)
    found = accumulate(np.zeros(200_000, np.float32), np.float32(0), reference, np.float32(6), False).summary()
    assert found["pull_spread"] == pytest.approx(1.0, abs=0.01)
    assert found["mae_adu"] == pytest.approx(found["noise_floor_adu"], rel=0.01)


def test_a_zero_error_is_no_pull():
    found = accumulate(np.ones(4), 0.0, np.ones(4), 0.0, False).summary()
    assert found["n_pixels"] == 4
    assert math.isnan(found["pull_spread"])
    assert found["mape_percent"] == 0.0


def test_wrong_shapes_and_edges_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        accumulate(np.zeros((2, 3)), 1.0, np.zeros((3, 2)), 1.0, False)
    with pytest.raises(ValueError, match="rise"):
        accumulate(np.zeros(3), 1.0, np.zeros(3), 1.0, False, (1000.0, 300.0))
    with pytest.raises(ValueError, match="classes differ"):
        accumulate(np.zeros(3), 1.0, np.zeros(3), 1.0, False, (1.0,)) + CellErrors.empty()


def awkward(pixels, kind, seed=5):
    """Signals of all classes, with what is no number, and values from nothing to absurd."""
    rng = np.random.default_rng(seed)
    signal = 10 ** rng.uniform(0, 4.5, pixels)
    error = np.sqrt(2 + signal / 20)
    planes = [signal, 0.3 * error, signal + error * rng.normal(0, 1, pixels), error]
    for plane in planes:
        some = rng.random(pixels)
        plane[some < 0.02] = rng.choice([np.nan, np.inf, -np.inf, 0.0, -1.0], int((some < 0.02).sum()))
        huge = some > 0.995
        plane[huge] = 10 ** rng.uniform(4, 15, int(huge.sum())) * rng.choice([-1.0, 1.0], int(huge.sum()))
    planes = [plane.astype(kind) for plane in planes]
    return Planes(*planes, (rng.random(pixels) < 0.05).astype(np.uint8), planes[0], np.empty(0, kind))


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("edges", [(), (300.0, 1000.0, 5000.0)])
@pytest.mark.parametrize("own_total", [False, True])
def test_eight_at_a_time_and_one_by_one_count_alike(kind, edges, own_total):
    planes = awkward(70_003, kind)
    if own_total:
        planes = planes._replace(total_error=np.abs(planes.prediction_error))
    borders = np.array(edges)
    together, alone = new_tally(2 * len(edges) + 2), new_tally(2 * len(edges) + 2)
    count_pixels(planes, borders, together)
    for p in range(planes.prediction.size):
        count_pixel(planes, borders, p, alone)
    assert errors_of(together, edges) == errors_of(alone, edges)


@pytest.mark.parametrize("pixels", [1, 7, 8, 9, 70_003])
def test_tiles_of_any_size_count_every_pixel_once(pixels):
    planes = awkward(pixels, np.float32)
    arguments = planes.prediction, planes.prediction_error, planes.reference, planes.reference_error, planes.flagged
    finite = np.isfinite(planes.prediction) & np.isfinite(planes.reference)
    assert accumulate(*arguments).summary()["n_pixels"] == finite.sum()


@pytest.mark.parametrize("odd", [-1, 4, 1 << 62])
def test_bins_that_are_none_of_a_histogram_are_refused(odd):
    histogram = np.zeros(4, np.int64)
    with pytest.raises(IndexError, match="histogram of 4"):
        fill(histogram, np.array([[1, odd], [1, 1]]))
    assert not histogram.any()


@pytest.mark.parametrize("rows", [1, 3])
def test_what_is_no_pair_of_rows_is_no_histogram(rows):
    with pytest.raises(ValueError, match="unpack"):
        fill(np.zeros(4, np.int64), np.zeros((rows, 2), np.int64))


def test_a_histogram_is_what_its_bins_say():
    rng = np.random.default_rng(4)
    for histogram in (rng.integers(0, 3, (6, 50)), np.zeros((2, 3), np.int64), np.ones(9, np.int64)):
        found = sparse(histogram)
        assert np.array_equal(found[0], np.flatnonzero(histogram))
        twice = histogram.copy()
        fill(twice, found)
        assert np.array_equal(twice, 2 * histogram)


def test_what_is_counted_after_asking_does_not_change_the_answer(scene):
    counts = ErrorCounts()
    counts.add(*(item[:64] for item in scene))
    early = counts.errors()
    told = early.to_dict()
    counts.add(*(item[64:] for item in scene))
    assert early == CellErrors.from_dict(told)
    assert counts.errors() == accumulate(*scene)


def test_plain_data_of_tiles_add_up(scene):
    whole = accumulate(*scene)
    tiles = [accumulate(*(item[a:b] for item in scene)) for a, b in itertools.pairwise([0, 64, 181])]
    total = CellErrors.from_dict(tiles[0].to_dict()).plus(tiles[1].to_dict())
    assert total == whole
    assert tiles[0] + tiles[1] == whole  # the first is as it was
    with pytest.raises(ValueError, match="classes differ"):
        total.plus(accumulate(*scene, (50.0,)).to_dict())
