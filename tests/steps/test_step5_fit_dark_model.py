"""Parameter maps, their errors, and the description of the model, against the truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import (
    CAMPAIGN,
    CELL_NAMES,
    CONSTANT,
    GAP_EV,
    STUCK_HIGH,
    STUCK_LOW,
    Campaign,
    assert_pulls,
    header,
    inputs_of,
    make_campaign,
    planes,
    run,
    run_well,
    sound,
    spread,
    table,
)

from darkpipe.science.flags import DQ

SEED_MAPS = {"A": "dark_A_map.fits", "B": "dark_B_map.fits", "gamma": "dark_gamma_map.fits"}
DIAGONAL = {0: 0, 1: 3, 2: 5}  # slot of a parameter: its plane in the covariance


@pytest.fixture(scope="module")
def exponential(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """A sensor that obeys exp_2d."""
    campaign = make_campaign(tmp_path_factory.mktemp("exponential"), law="exponential", n_darks=6, n_biases=12)
    run_well(campaign, chosen={"until_step": 5})
    return campaign


def fitted(maps: Mapping[str, np.ndarray]) -> np.ndarray:
    """Pixels whose fit met nothing odd; those that borrow their shape count, since their errors include it."""
    return np.isfinite(maps["SCI"]) & ((maps["DQ"] & (DQ.AT_BOUND | DQ.OUTLIER | DQ.NONLINEAR)) == 0)


@pytest.mark.parametrize("parameter", ["A", "B", "gamma"])
def test_exp_2d_finds_the_true_maps(exponential: Campaign, parameter: str) -> None:
    path = exponential.model / SEED_MAPS[parameter]
    made = planes(path)
    cards = header(path)
    assert (cards["T-REF"], cards["MODEL"], cards["PARAM"]) == (-10.0, "exp_2d", parameter)
    bright = exponential.sensor.signal_adu(0.0, 300.0) > 10 * 2.5 / 0.8
    assert bright.mean() > 0.9
    assert np.isfinite(made["SCI"][bright]).all()
    own = bright & fitted(made)
    assert own.mean() > 0.5
    truth = exponential.sensor.maps[parameter]
    assert_pulls(made["SCI"], truth, made["ERR"], own, 0.1)
    pull = ((made["SCI"] - truth) / made["ERR"])[bright]
    assert spread(pull) < 1.15
    assert abs(np.mean(pull)) < 0.15


def test_exp_2d_is_chosen_where_it_is_the_law(exponential: Campaign) -> None:
    described = yaml.safe_load((exponential.model / "model.yaml").read_text())
    assert described["chosen"] == "exp_2d"
    chi2 = planes(exponential.model / "chi2_map.fits")
    good = chi2["DOF"] >= 5
    reduced = chi2["SCI"][good] / chi2["DOF"][good]
    assert np.median(reduced) == pytest.approx(0.9, abs=0.15)
    bad = (planes(exponential.model / "status_map.fits")["DQ"] & (DQ.NONLINEAR | DQ.OUTLIER)) != 0
    assert bad.mean() < 0.02


@pytest.mark.parametrize(
    ("parameter", "energy_ev", "power"), [("G", GAP_EV / 2, 1.5), ("D", GAP_EV, 3.0)], ids=["G", "D"]
)
def test_two_component_finds_the_true_maps(finished: Campaign, parameter: str, energy_ev: float, power: float) -> None:
    path = finished.model / "two_component" / f"{parameter}_map.fits"
    made = planes(path)
    t_ref = header(path)["T-REF"]
    assert t_ref == -5.0
    truth = finished.sensor.maps[parameter] * finished.sensor.arrhenius(t_ref, energy_ev, power)
    own = sound() & fitted(made)
    assert own.mean() > 0.9
    assert_pulls(made["SCI"], truth, made["ERR"], own, 0.1)
    assert header(path, "SCI")["BUNIT"] == header(path, "ERR")["BUNIT"] == "adu / s"
    assert inputs_of(path) == CELL_NAMES


@pytest.mark.parametrize("folder", ["", "two_component"])
def test_maps_hold_value_error_and_status(finished: Campaign, folder: str) -> None:
    base = finished.model / folder
    files = sorted(base.glob("*_map.fits")) if folder else [base / name for name in SEED_MAPS.values()]
    files = [f for f in files if "PARAM" in header(f)]
    assert len(files) == (2 if folder else 3)
    covariance = planes(base / "covariance.fits")["SCI"]
    status = planes(base / "status_map.fits")
    slots = dict(reversed(item.split(": ")) for item in _slots(base / "covariance.fits"))
    for path in files:
        made = planes(path)
        assert (made["SCI"].dtype, made["ERR"].dtype, made["DQ"].dtype) == (np.float32, np.float32, np.uint16)
        variance = covariance[DIAGONAL[int(slots[header(path)["PARAM"]])]]
        np.testing.assert_allclose(made["ERR"] ** 2, variance, rtol=1e-5)
        np.testing.assert_array_equal(made["DQ"], status["DQ"])
        failed = (made["DQ"] & DQ.FIT_FAILED) != 0
        np.testing.assert_array_equal(np.isnan(made["SCI"]), failed)
        np.testing.assert_array_equal(np.isnan(made["ERR"]), failed)
        assert sorted(zip(*map(list, np.nonzero(failed)), strict=True)) == sorted([STUCK_HIGH, STUCK_LOW])
        assert np.isfinite(made["SCI"][CONSTANT])
    np.testing.assert_array_equal(status["SCI"], ((status["DQ"] & ~np.uint16(DQ.PRIOR)) != 0).astype(np.uint8))


def _slots(path: Path) -> list[str]:
    comment = header(path).comments["PLANES"]
    return [item.strip() for item in comment.removeprefix("slots ").split(",")]


def test_the_seed_names_are_there_and_nothing_that_was_not_asked_for(finished: Campaign) -> None:
    names = {p.relative_to(finished.model).as_posix() for p in finished.model.rglob("*") if p.is_file()}
    assert set(SEED_MAPS.values()) | {"hot_pixel_mask.fits", "model.yaml", "covariance.fits"} <= names
    assert {"two_component/G_map.fits", "two_component/D_map.fits"} <= names
    assert not [n for n in names if n.startswith(("exp_1d", "exp_t"))]


def test_the_description_says_what_was_fitted_and_why(finished: Campaign) -> None:
    described = yaml.safe_load((finished.model / "model.yaml").read_text())
    assert described["chosen"] == "two_component"
    assert "smallest held-out error" in described["why"]
    assert [m["name"] for m in described["models"]] == ["exp_2d", "two_component"]
    for model in described["models"]:
        assert (model["temperature_c"], model["exposure_s"], model["cells"]) == ([-10.0, 0.0], [30.0, 300.0], 9)
    assert set(described["not_fitted"]) == {"exp_1d", "exp_t", "two_component_glow", "exp_2d_glow"}
    assert (described["shape"], described["has_bias"], described["gain_e_per_adu"]) == ([48, 40], True, 0.8)
    scores = {m["name"]: m["score"] for m in described["models"]}
    for name, score in scores.items():
        held = table(finished.model / ("" if name == "exp_2d" else name) / "held_out.ecsv")
        ratio = held["mae_unflagged_adu"] / held["noise_floor_unflagged_adu"]
        assert score == pytest.approx(np.mean(ratio), rel=1e-5)
    assert scores["two_component"] < scores["exp_2d"]


def test_the_bias_goes_with_the_model(finished: Campaign) -> None:
    bias = planes(finished.model / "bias_model.fits")
    t_ref = header(finished.model / "bias_model.fits")["T_REF"]
    for t in CAMPAIGN.temperatures_c:
        error = np.sqrt(bias["COVAR"][0] + 2 * bias["COVAR"][1] * (t - t_ref) + bias["COVAR"][2] * (t - t_ref) ** 2)
        assert_pulls(bias["SCI"] + bias["B1"] * (t - t_ref), finished.sensor.bias_adu(t), error, sound(), 0.1)


def test_hot_pixels_are_left_out_on_request(work: Campaign) -> None:
    run_well(work, chosen={"until_step": 5}, fit_dark_model={"exclude_hot_from_fit": True})
    hot = (planes(work.model / "hot_pixel_mask.fits")["DQ"] & DQ.HOT) != 0
    assert hot.sum() > 20
    for name in SEED_MAPS.values():
        made = planes(work.model / name)
        assert np.isnan(made["SCI"][hot]).all()
        assert (made["DQ"][hot] & DQ.FIT_FAILED).all()
        assert np.isfinite(made["SCI"][~hot & sound()]).all()


def test_temperatures_are_left_out_on_request(work: Campaign) -> None:
    run_well(work, chosen={"until_step": 5}, fit_dark_model={"exclude_temperatures_c": [0.0]})
    described = yaml.safe_load((work.model / "model.yaml").read_text())
    assert all(m["temperature_c"] == [-10.0, -5.0] for m in described["models"])
    assert list(table(work.model / "held_out.ecsv")["cell"]) == CELL_NAMES[:6]


def test_what_cannot_be_fitted_says_why_and_keeps_what_was_made(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, temperatures_c=(-10.0,), exposures_s=(30.0,))
    report = run(campaign)
    assert report.exit_code == 1
    said = str(report.failures[0])
    assert "no model can be fitted" in said
    assert "temperature" in said
    assert "exposure" in said
    assert (campaign.out / "dark_masks_by_temp" / "darks_T-10.0C_texp30s.fits").is_file()
    assert (campaign.model / "hot_pixel_mask.fits").is_file()
    assert not (campaign.out / "synthetic").exists()


def test_one_temperature_gets_exp_t(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, law="exponential", temperatures_c=(-10.0,))
    run_well(campaign)
    described = yaml.safe_load((campaign.model / "model.yaml").read_text())
    assert [(m["name"], m["cell"]) for m in described["models"]] == [("exp_t", "T-10.0C")]
    assert described["chosen"] == "exp_t/T-10.0C"
    assert {"exp_1d", "exp_2d", "two_component"} <= set(described["not_fitted"])
    assert_true_level(campaign, "exp_t/T-10.0C/A_map.fits", campaign.sensor.maps["A"])


def test_one_exposure_gets_two_component_and_exp_1d(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, law="exponential", exposures_s=(100.0,))
    run_well(campaign)
    described = yaml.safe_load((campaign.model / "model.yaml").read_text())
    assert [(m["name"], m["cell"]) for m in described["models"]] == [("two_component", ""), ("exp_1d", "texp100s")]
    assert "exp_2d" in described["not_fitted"]
    run_well(campaign, fit_dark_model={"model": "exp_1d"})
    described = yaml.safe_load((campaign.model / "model.yaml").read_text())
    assert described["chosen"] == "exp_1d/texp100s"
    assert_true_level(campaign, "exp_1d/texp100s/A_map.fits", campaign.sensor.signal_adu(-10.0, 100.0))


def assert_true_level(campaign: Campaign, name: str, truth: np.ndarray) -> None:
    made = planes(campaign.model / name)
    known = np.isfinite(made["SCI"])
    assert known.mean() > 0.98
    assert spread(((made["SCI"] - truth) / made["ERR"])[known]) == pytest.approx(1.0, abs=0.15)


@pytest.fixture(scope="module")
def glowing(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """A sensor with an amplifier that shines into a corner."""
    campaign = make_campaign(tmp_path_factory.mktemp("glowing"), rows=64, cols=64, glow_rate_adu_s=0.6)
    run_well(campaign, chosen={"until_step": 5})
    return campaign


def test_glow_is_found_chosen_and_told(glowing: Campaign) -> None:
    described = yaml.safe_load((glowing.model / "model.yaml").read_text())
    assert described["chosen"] == "two_component_glow"
    scores = {m["name"]: m["score"] for m in described["models"]}
    assert scores["two_component_glow"] < scores["two_component"]
    note = next(n for n in described["notes"] if "(two_component_glow)" in n)
    assert "row 4, column 60" in note
    assert "there the held-out error of two_component_glow is 0." in note
    assert table(glowing.out / "sensor_summary.ecsv").meta["model"] == "two_component_glow"
    blocks = planes(glowing.model / "two_component_glow" / "glow_blocks.fits")
    assert blocks["GLOWING"][0, -1] == 1
    assert blocks["GLOWING"][-1, 0] == 0


@pytest.mark.parametrize(("parameter", "within"), [("G", 0.08), ("D", 0.08), ("E", 0.6)])
def test_maps_with_glow_are_the_truth(glowing: Campaign, parameter: str, within: float) -> None:
    """Errors of E are shared among neighbours, so that their spread over one sensor says less."""
    made = planes(glowing.model / "two_component_glow" / f"{parameter}_map.fits")
    energy_power = {"G": (GAP_EV / 2, 1.5), "D": (GAP_EV, 3.0)}
    growth = {name: glowing.sensor.arrhenius(-5.0, *law) for name, law in energy_power.items()} | {"E": 1.0}
    pull = (made["SCI"] - glowing.sensor.maps[parameter] * growth[parameter]) / made["ERR"]
    assert spread(pull[np.isfinite(pull)]) == pytest.approx(1.0, abs=within)


def test_glow_is_not_found_on_a_sensor_without(finished: Campaign) -> None:
    described = yaml.safe_load((finished.model / "model.yaml").read_text())
    for name in ("two_component_glow", "exp_2d_glow"):
        assert "no glow found" in described["not_fitted"][name]
        assert header(finished.model / name / "glow_blocks.fits")["FOUND"] is False
    assert described["notes"] == []


def test_a_model_with_glow_is_refused_where_there_is_none(tmp_path: Path, plain: Campaign) -> None:
    campaign = plain.copied_to(tmp_path / "campaign")
    report = run(campaign, fit_dark_model={"model": "two_component_glow"})
    assert any("no glow found" in str(failure) for failure in report.failures)
