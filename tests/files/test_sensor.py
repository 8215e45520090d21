"""Maps of energies and the summary of the sensor: against simulated truth, and where something is missing."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    CAMPAIGN,
    CELL_NAMES,
    DEFECTS,
    Campaign,
    header,
    make_campaign,
    planes,
    run_well,
    sound,
    spread,
    table,
)

from darkpipe.files import sensor
from darkpipe.files.masters import ReferenceValues
from darkpipe.files.products import Frame, write_frame
from darkpipe.files.sensor import ModelFiles, growth_maps, summary_lines
from darkpipe.files.sensor_rows import gain_of, gain_rows, level_error, noise_rows
from darkpipe.science.drift import Drift
from darkpipe.science.flags import DQ, MODEL_INVALID

K_EV = 8.617333262e-5
VALUES = ReferenceValues(1.0, 3.0, 0.8, "header", 60000.0, 0.0, -5.0, 0.82, 0.01)


def rows_of(path: Path) -> dict[str, tuple[float, float, str, str]]:
    return {str(r["name"]): (float(r["value"]), float(r["error"]), str(r["unit"]), str(r["how"])) for r in table(path)}


def true_growth(campaign: Campaign, temperature_c: float, pixels: np.ndarray | None = None) -> np.ndarray:
    """d ln I/dT of each pixel, or of the mean of some."""
    low, high = (campaign.sensor.signal_adu(temperature_c + d, 1.0) for d in (-0.01, 0.01))
    if pixels is not None:
        low, high = low[pixels].mean(), high[pixels].mean()
    return (np.log(high) - np.log(low)) / 0.02


def typical(campaign: Campaign, folder: str) -> np.ndarray:
    bits = (
        planes(campaign.model / "hot_pixel_mask.fits")["DQ"] | planes(campaign.model / folder / "status_map.fits")["DQ"]
    )
    return (bits & int(MODEL_INVALID | DQ.HOT | DQ.WARM | DQ.OUTLIER)) == 0


@pytest.mark.parametrize("quantity", ["activation_energy", "doubling_temperature"])
def test_maps_of_two_component_are_the_truth(finished: Campaign, quantity: str) -> None:
    path = finished.model / "two_component" / f"{quantity}_map.fits"
    made, cards = planes(path), header(path)
    assert (cards["T-REF"], cards["MODEL"]) == (-5.0, "two_component")
    assert header(path, "SCI")["BUNIT"] == header(path, "ERR")["BUNIT"] == {"a": "eV", "d": "deg_C"}[quantity[0]]
    growth = true_growth(finished, -5.0)
    true = K_EV * 268.15**2 * growth if quantity[0] == "a" else math.log(2) / growth
    good = np.isfinite(made["SCI"]) & sound() & ((made["DQ"] & int(DQ.NONLINEAR | DQ.OUTLIER)) == 0)
    assert good.mean() > 0.95
    pulls = ((made["SCI"] - true) / made["ERR"])[good]
    assert spread(pulls) == pytest.approx(1.0, abs=0.1)
    assert abs(np.median(pulls)) < 0.15
    undefined = np.isnan(made["SCI"])
    np.testing.assert_array_equal(undefined, np.isnan(made["ERR"]))
    np.testing.assert_array_equal(undefined, (made["DQ"] & int(DQ.FIT_FAILED)) != 0)
    fit = planes(finished.model / "two_component" / "status_map.fits")["DQ"]
    np.testing.assert_array_equal(made["DQ"][~undefined], fit[~undefined])
    assert undefined[3, 7]
    assert undefined[20, 33]


def test_maps_of_exp_2d_are_those_of_b(finished: Campaign) -> None:
    b = planes(finished.model / "dark_B_map.fits")
    energy = planes(finished.model / "activation_energy_map.fits")
    doubling = planes(finished.model / "doubling_temperature_map.fits")
    told, clear = np.isfinite(energy["SCI"]), np.isfinite(doubling["SCI"])
    assert told.mean() > 0.95
    np.testing.assert_allclose(energy["SCI"][told], (K_EV * 268.15**2 * b["SCI"])[told], rtol=1e-5)
    np.testing.assert_allclose(energy["ERR"][told], (K_EV * 268.15**2 * b["ERR"])[told], rtol=1e-5)
    np.testing.assert_allclose(doubling["SCI"][clear], math.log(2) / b["SCI"][clear], rtol=1e-5)
    np.testing.assert_array_equal(clear, told & (b["SCI"] > 3 * b["ERR"]))


def small_model(folder: Path, **cards: float) -> ModelFiles:
    """Maps of 7 x 5 pixels of two_component, one of them failed, one faint."""
    rng = np.random.default_rng(2)
    maps = {"G": rng.uniform(0.05, 0.2, (7, 5)), "D": rng.uniform(0.05, 0.2, (7, 5))}
    maps["G"][2, 3] = np.nan
    maps["G"][4, 1] = maps["D"][4, 1] = 1e-4
    dq = np.zeros((7, 5), np.uint16)
    dq[2, 3], dq[0, 0] = DQ.FIT_FAILED, DQ.OUTLIER
    given = {"T-REF": -5.0, "T-MIN": -10.0, "T-MAX": 0.0, "EXPMAX": 300.0, "EGAP": 1.12, **cards}
    head = [(key, value, "") for key, value in given.items()]
    paths = {name: folder / f"{name}.fits" for name in maps}
    for name, path in paths.items():
        write_frame(path, Frame(maps[name].astype(np.float32), dq=dq, header=head))
    covariance = np.zeros((6, 7, 5), np.float32)
    covariance[0], covariance[1], covariance[3] = 1e-5, -5e-6, 1e-5
    covariance[:, 2, 3] = np.nan
    write_frame(folder / "covariance.fits", Frame(covariance))
    return ModelFiles("two_component", paths, folder / "covariance.fits")


def test_bands_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = small_model(tmp_path)
    written = []
    for bands in (64 << 20, 1):
        monkeypatch.setattr(sensor, "BAND_BYTES", bands)
        written.append([write_frame(tmp_path / "map.fits", made) for made in growth_maps(files, [], -5.0)])
    assert written[0] == written[1]
    assert written[0][0] != written[0][1]


def test_large_sensors_are_sampled_all_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [(b.start, b.stop) for b in sensor.sample_bands((10, 100), 1)] == [(0, 10)]
    monkeypatch.setattr(sensor, "SAMPLE_PIXELS", 6400)
    found = sensor.sample_bands((1000, 100), 80)
    rows = [r for b in found for r in range(b.start, b.stop)]
    assert len(rows) == len(set(rows)) == 64
    assert (rows[0], rows[-1]) == (0, 999)
    assert max(np.diff(rows)) < 40


def test_a_sample_says_what_the_whole_says(work: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rows_of(work.out / "sensor_summary.ecsv")
    monkeypatch.setattr(sensor, "SAMPLE_PIXELS", 40 * 32)
    (work.out / "sensor_summary.ecsv").unlink()
    run_well(work, engine="threads")
    after = rows_of(work.out / "sensor_summary.ecsv")
    for name in ("dark_current_typical_adu_s", "dark_current_mean_adu_s"):
        value, error, _, how = after[name]
        assert "rows spread over the sensor" in how
        assert value != before[name][0]
        assert error > before[name][1] * 0.9
        assert abs(value - before[name][0]) < 3 * error
    assert after["pixels_hot"][0] == before["pixels_hot"][0]


def test_status_of_the_maps(tmp_path: Path) -> None:
    files = small_model(tmp_path)
    energy = tmp_path / "energy.fits"
    write_frame(energy, growth_maps(files, [], -5.0)[0])
    made = planes(energy)
    failed = sorted(map(tuple, np.argwhere(np.isnan(made["SCI"])).tolist()))
    assert failed == [(2, 3), (4, 1)]  # no model; too faint to tell
    assert made["DQ"][4, 1] == made["DQ"][2, 3] == DQ.FIT_FAILED
    assert made["DQ"][0, 0] == DQ.OUTLIER
    write_frame(energy, growth_maps(files, [], 12.0)[0])
    assert (planes(energy)["DQ"] & int(DQ.EXTRAPOLATED)).all()
    assert header(energy)["T-REF"] == 12.0


def test_the_summary_is_the_truth(finished: Campaign) -> None:
    found = rows_of(finished.out / "sensor_summary.ecsv")
    t, recipe, sensor_ = -5.0, CAMPAIGN, finished.sensor
    assert found["reference_temperature_c"][0] == t
    use = typical(finished, "two_component")
    current, bias = sensor_.signal_adu(t, 1.0), sensor_.bias_adu(t)
    growth = float(true_growth(finished, t, use))
    hot = (planes(finished.model / "hot_pixel_mask.fits")["DQ"] & int(DQ.HOT)) != 0
    true = {
        "dark_current_typical_adu_s": current[use].mean(),
        "dark_current_typical_e_s": current[use].mean() * 0.8,
        "dark_current_typical_spread_adu_s": current[use].std(ddof=1),
        "doubling_temperature_c": math.log(2) / growth,
        "activation_energy_ev": K_EV * 268.15**2 * growth,
        "bias_level_adu": np.median(bias),
        "dsnu_adu": bias[sound()].std(ddof=1),
        "read_noise_adu": math.sqrt((recipe.read_noise_e / 0.8) ** 2 + 1 / 12),
        "read_noise_e": recipe.read_noise_e,
        "gain_header_e_per_adu": 0.8,
        "exposure_longest_s": 300.0,
        "exposure_shortest_s": 30.0,
        "temperature_lowest_c": -10.0,
        "temperature_highest_c": 0.0,
        "cells": 9,
        "dark_frames": 36,
        "pixels": 48 * 40,
        "pixels_hot": hot.sum(),
        "hot_pixel_fraction": hot.mean(),
    }
    for name, expected in true.items():
        value, error, *_ = found[name]
        assert value == pytest.approx(expected, rel=1e-5, abs=4 * error if math.isfinite(error) else 0), name
    for name in ("dark_current_typical_adu_s", "activation_energy_ev", "doubling_temperature_c", "read_noise_adu"):
        value, error, *_ = found[name]
        assert 0 < error < 0.05 * value, name
    assert math.isnan(found["prnu_percent"][0])
    assert "not applicable" in found["prnu_percent"][3]
    assert found["dark_current_mean_adu_s"][0] > found["dark_current_typical_adu_s"][0]
    assert found["activation_energy_hot_ev"][0] < found["activation_energy_ev"][0]
    assert found["pixels_special"][0] >= found["pixels_hot"][0] + found["pixels_warm"][0]


def test_every_quantity_has_a_unit_and_an_origin(finished: Campaign) -> None:
    made = table(finished.out / "sensor_summary.ecsv")
    assert made.colnames == ["name", "value", "error", "unit", "how"]
    assert len(set(made["name"])) == len(made) > 40
    assert all(len(str(r["unit"])) > 0 and len(str(r["how"])) > 5 for r in made)
    assert made.meta["model"] == "two_component"
    assert (
        "median + 5 robust sigma of the master " + CELL_NAMES[-1]
        in rows_of(finished.out / "sensor_summary.ecsv")["hot_pixel_fraction"][3]
    )
    assert len(DEFECTS) <= made[list(made["name"]).index("pixels_special")]["value"]


def test_the_end_of_a_run_shows_the_main_ones(finished: Campaign, tmp_path: Path) -> None:
    lines = summary_lines(finished.out / "sensor_summary.ecsv")
    assert lines[0] == "at -5 deg C; the whole of it: sensor_summary.ecsv"
    assert any(line.startswith("activation energy: 0.") and line.endswith("eV") for line in lines)
    assert any(line.startswith("hot pixels, fraction: 0.0") for line in lines)
    assert all(line.isascii() and len(line) < 80 for line in lines)
    assert summary_lines(tmp_path / "none.ecsv") == []


@pytest.mark.parametrize(
    ("changes", "missing", "chosen"),
    [
        ({"n_biases": 0}, {"bias_level_adu", "dsnu_adu", "dsnu_pixel_e"}, ""),
        ({"temperatures_c": (-10.0,)}, {"doubling_temperature_c", "activation_energy_ev"}, "exp_t/T-10.0C"),
        ({"exposures_s": (100.0,)}, {"prnu_percent"}, ""),
    ],
    ids=["no bias", "one temperature", "one exposure"],
)
def test_campaigns_that_lack_something(tmp_path: Path, changes: dict, missing: set[str], chosen: str) -> None:
    campaign = make_campaign(tmp_path, **changes)
    run_well(campaign, chosen={"until_step": 5})
    path = campaign.out / "sensor_summary.ecsv"
    found = rows_of(path)
    assert all(math.isnan(found[name][0]) for name in missing)
    assert not chosen or table(path).meta["model"] == chosen
    t = found["reference_temperature_c"][0]
    value, error, _, how = found["dark_current_typical_adu_s"]
    use = typical(campaign, table(path).meta["model"].replace("exp_2d", ""))
    # a gamma of the fit's own makes the rate one of the longest exposure
    assert abs(value - campaign.sensor.signal_adu(t, 1.0)[use].mean()) < 4 * error, how
    assert 0 < error < 0.2 * value
    assert summary_lines(path)


def test_levels_have_an_error_even_where_none_was_seen() -> None:
    biases = Drift(1.0, {"a": 4, "b": 12})
    assert level_error(biases.of_bias("a")) > level_error(biases.of_bias("b")) > level_error(biases.of_bias("line"))
    assert level_error(Drift(1.0).level_variance(100)) == pytest.approx(0.12533, rel=1e-4)
    assert level_error(Drift().of_bias("a")) == 1e-3


def test_the_gain_in_use_has_an_error() -> None:
    def given(stated: float | None, **changes: object) -> tuple[float, float, float]:
        gain = gain_of(stated, ReferenceValues(**{**vars(VALUES), **changes}))
        return gain.value, gain.error, gain.header

    assert given(0.8) == (0.8, pytest.approx(0.02), 0.8)  # the header is off by more than the measurement's error
    assert given(0.8, gain_measured_e_per_adu=0.801) == (0.8, 0.01, 0.8)
    assert given(0.8, gain_e_per_adu=0.9, gain_source="setting") == (0.9, 0.0, 0.8)
    measured = given(None, gain_e_per_adu=0.82, gain_source="measured")
    assert (measured[:2], math.isnan(measured[2])) == ((0.82, 0.01), True)
    assert all(math.isnan(v) for v in given(None, gain_e_per_adu=1.0, gain_source="assumed"))
    assert given(0.05, scale_factor=16.0) == (0.8, pytest.approx(0.02), 0.8)
    assert given(0.8, scale_factor=16.0)[2] == 0.8


def test_header_and_measurement_are_compared() -> None:
    rows = {r["name"]: r for r in gain_rows(gain_of(0.8, VALUES), VALUES)}
    assert rows["gain_measured_over_header"]["value"] == pytest.approx(1.025)
    assert rows["gain_measured_over_header"]["how"] == "2.5% apart, 2.0 errors of the measurement"
    lone = ReferenceValues(**{**vars(VALUES), "gain_measured_e_per_adu": None, "gain_measured_error": None})
    rows = {r["name"]: r for r in gain_rows(gain_of(0.8, lone), lone)}
    assert math.isnan(rows["gain_measured_over_header"]["value"])


def test_read_noise_in_electrons_is_without_quantisation() -> None:
    known = ReferenceValues(
        **{
            **vars(VALUES),
            "read_noise_error_adu": 0.004,
            "read_noise_measured_adu": 3.0,
            "read_noise_by_temperature": ((-10.0, 2.9, 0.01), (0.0, 3.1, 0.01)),
        }
    )
    adu, electrons = noise_rows(known, 40, gain_of(0.8, VALUES))
    assert electrons["value"] == pytest.approx(0.8 * math.sqrt(9 - 1 / 12))
    assert adu["error"] == pytest.approx(0.004, rel=0.1)
    assert "2.9 +- 0.01 at -10 deg C, 3.1 +- 0.01 at 0 deg C" in adu["how"]
    was_set, _ = noise_rows(ReferenceValues(**{**vars(known), "read_noise_adu": 3.5}), 40, gain_of(0.8, VALUES))
    assert "set; differences of 40 bias frames give 3" in was_set["how"]
    alone, _ = noise_rows(VALUES, 1, gain_of(0.8, VALUES))
    assert math.isnan(alone["error"])
    assert "see the notes" in alone["how"]
