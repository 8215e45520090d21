"""The parts of the benchmarks that need no pipeline: the Cramér–Rao bounds, the verdicts, the reading of tables."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from scipy.optimize import curve_fit
from simulated import Recipe, Sensor

from benchmarks import common, crb, heldout_real, judging, special_truth
from benchmarks.telegraph_frames import DUTIES, Scene, Truth

SMALL = Recipe(
    rows=2,
    cols=3,
    temperatures_c=(-10.0, -5.0, 0.0),
    exposures_s=(30.0, 100.0, 300.0),
    bulk_rate_adu_s=3.0,
    hot_fraction=0.0,
    seed=4,
)


def masters(sensor: Sensor, rng: np.random.Generator, n: int) -> np.ndarray:
    """Simulated master darks minus master bias, (n, cells, pixels), with the bias error shared by a temperature."""
    keys = crb.cells(sensor)
    read_adu = sensor.read_noise_e.ravel() / sensor.recipe.gain_e_per_adu
    bias_sigma = np.sqrt((read_adu**2 + 1 / 12) / sensor.recipe.n_biases)
    bias = {t_c: bias_sigma * rng.normal(size=(n, read_adu.size)) for t_c in sensor.recipe.temperatures_c}
    columns = []
    for (t_c, t_s), count in keys.items():
        sigma = np.sqrt(sensor.frame_variance_adu2(t_c, t_s).ravel() / count)
        columns.append(sensor.signal_adu(t_c, t_s).ravel() + sigma * rng.normal(size=(n, sigma.size)) - bias[t_c])
    return np.stack(columns, axis=1)


def covariance(sensor: Sensor, pixel: int) -> np.ndarray:
    """Covariance of one pixel's masters (cells, cells), written out."""
    keys = crb.cells(sensor)
    temperatures = np.array([t_c for t_c, _ in keys])
    shared = ((sensor.read_noise_e / sensor.recipe.gain_e_per_adu) ** 2 + 1 / 12).ravel()[
        pixel
    ] / sensor.recipe.n_biases
    own = [sensor.frame_variance_adu2(t_c, t_s).ravel()[pixel] / n for (t_c, t_s), n in keys.items()]
    return np.diag(own) + shared * (temperatures[:, None] == temperatures[None, :])


@pytest.mark.parametrize("law", ["exponential", "physics"])
def test_information_is_the_textbook_one(law: str) -> None:
    sensor = Sensor(dataclasses.replace(SMALL, law=law, n_biases=3, frames_of=((-5.0, 30.0, 2), (0.0, 300.0, 0))))
    information, used = crb.fisher_information(sensor)
    assert (used == 8).all()
    for pixel in range(6):
        j = np.array([crb.derivatives(sensor, *cell)[:, pixel] for cell in crb.cells(sensor)])
        expected = j.T @ np.linalg.inv(covariance(sensor, pixel)) @ j
        np.testing.assert_allclose(information[pixel], expected, rtol=1e-9)


def test_derivatives_are_those_of_the_signal() -> None:
    sensor = Sensor(dataclasses.replace(SMALL, law="exponential"))
    j = crb.derivatives(sensor, -5.0, 100.0)
    for k, (name, scale) in enumerate((("A", sensor.maps["A"]), ("B", 1.0), ("gamma", 1.0))):
        moved = Sensor(dataclasses.replace(SMALL, law="exponential"))
        moved.maps[name] = moved.maps[name] + 1e-6 * scale
        slope = (moved.signal_adu(-5.0, 100.0) - sensor.signal_adu(-5.0, 100.0)) / 1e-6
        np.testing.assert_allclose(j[k], slope.ravel(), rtol=1e-3)


def test_curve_fit_reaches_the_bound() -> None:
    sensor = Sensor(dataclasses.replace(SMALL, law="exponential", n_biases=2, rows=1, cols=2))
    n = 250
    data = masters(sensor, np.random.default_rng(8), n)
    x = np.array(list(crb.cells(sensor))).T - np.array([[sensor.t_min_c], [0.0]])
    bound, sigma = crb.parameter_sigma(sensor).reshape(3, -1), crb.prediction_sigma(sensor, -2.5, 200.0).ravel()

    def law(where: np.ndarray, log_a: float, b: float, gamma: float) -> np.ndarray:
        return np.exp(log_a + b * where[0] + gamma * np.log(where[1]))

    at = np.array([[-2.5 - sensor.t_min_c], [200.0]])
    for pixel in range(2):
        truth = [np.log(sensor.maps["A"].ravel()[pixel]), *(sensor.maps[m].ravel()[pixel] for m in ("B", "gamma"))]
        cov = covariance(sensor, pixel)
        fitted = np.array([curve_fit(law, x, y, truth, cov, absolute_sigma=True)[0] for y in data[:, :, pixel]])
        np.testing.assert_allclose((fitted - truth).std(0), bound[:, pixel], rtol=4 / np.sqrt(2 * n))
        error = np.array([law(at, *f)[0] for f in fitted]) - sensor.signal_adu(-2.5, 200.0).ravel()[pixel]
        assert error.std() == pytest.approx(sigma[pixel], rel=4 / np.sqrt(2 * n))
        assert np.abs(error).mean() == pytest.approx(np.sqrt(2 / np.pi) * sigma[pixel], rel=4 / np.sqrt(2 * n))


def test_pixels_that_saturate_lose_cells_and_then_their_bound() -> None:
    sensor = Sensor(dataclasses.replace(SMALL, law="exponential"))
    sensor.maps["A"][0, 0] *= 100
    sensor.maps["A"][0, 1] *= 1e5
    _, used = crb.fisher_information(sensor)
    assert 3 < used[0] < 9
    assert used[1] == 0
    sigma = crb.prediction_sigma(sensor, -5.0, 30.0)
    assert np.isnan(sigma).sum() == 1
    assert np.isnan(sigma[0, 1])
    assert crb.expected_mae(sigma) == pytest.approx(np.sqrt(2 / np.pi) * np.nanmean(sigma))


def save_map(path: Path, value: np.ndarray, error: np.ndarray) -> None:
    planes = [fits.ImageHDU(value, name="SCI"), fits.ImageHDU(error, name="ERR")]
    fits.HDUList([fits.PrimaryHDU(), *planes, fits.ImageHDU(np.zeros(value.shape, np.uint16), name="DQ")]).writeto(path)


def test_pulls_of_maps_with_honest_and_with_wrong_errors(tmp_path: Path) -> None:
    sensor = Sensor(Recipe(rows=100, cols=100, law="exponential"))
    rng = np.random.default_rng(3)
    (tmp_path / "dark_model").mkdir()
    for name, claimed in (("A", 1.0), ("B", 0.8), ("gamma", 1.0)):
        truth, sigma = sensor.maps[name], 0.01 * np.abs(sensor.maps[name])
        value = truth + sigma * rng.normal(size=truth.shape)
        value[0, 0] = np.nan
        save_map(tmp_path / "dark_model" / judging.MAPS["exp_2d"][name], value, claimed * sigma)
    verdicts = {v.what: v for v in judging.map_verdicts(judging.Outcome(sensor, tmp_path))}
    assert verdicts["pulls of A"].passed
    assert not verdicts["pulls of B"].passed
    assert float(verdicts["pulls of B"].value.split()[0]) == pytest.approx(1.25, abs=0.03)
    assert verdicts["pulls of gamma"].passed


def test_prediction_and_bias_against_truth(tmp_path: Path) -> None:
    sensor = Sensor(Recipe(rows=60, cols=60, law="physics"))
    point = (-7.5, 45.0)
    truth, sigma = sensor.signal_adu(*point), crb.prediction_sigma(sensor, *point)
    noise = np.random.default_rng(5).normal(size=sigma.shape) * sigma
    outcome = judging.Outcome(sensor, tmp_path)
    bits, inside = np.zeros(sigma.shape, np.uint16), np.ones(sigma.shape, bool)
    outcome.darks[point] = judging.Dark(truth + noise, sigma, bits, truth, sigma, inside)
    ratio, pulls, _ = judging.dark_verdicts(outcome)
    assert ratio.passed
    assert float(ratio.value.split()[0]) == pytest.approx(1.0, abs=0.05)
    assert pulls.passed
    assert judging.faint_verdicts(outcome)[0].passed
    outcome.darks[point] = judging.Dark(truth + noise + 0.3, 0.8 * sigma, bits, truth, sigma, inside)
    ratio, pulls, _ = judging.dark_verdicts(outcome)
    assert not ratio.passed
    assert not pulls.passed
    assert not judging.faint_verdicts(outcome)[0].passed


def test_points_lie_between_the_cells() -> None:
    assert judging.between([0.0, 10.0, 20.0, 40.0]) == [5.0, 15.0, 30.0]
    assert judging.between([1.0, 3.0]) == [2.0]
    assert judging.between([5.0]) == [5.0]


def test_without_biases_each_temperature_has_a_free_level() -> None:
    sensor = Sensor(dataclasses.replace(SMALL, law="physics", n_biases=0))
    information, _ = crb.fisher_information(sensor)
    keys = list(crb.cells(sensor))
    level = np.array([[float(t_c == t) for t in sensor.recipe.temperatures_c] for t_c, _ in keys])
    for pixel in range(6):
        j = np.concatenate([np.array([crb.derivatives(sensor, *c)[:, pixel] for c in keys]), level], axis=1)
        weight = np.array([n / sensor.frame_variance_adu2(*c).ravel()[pixel] for c, n in crb.cells(sensor).items()])
        joint = np.linalg.inv(j.T @ (weight[:, None] * j))[:2, :2]
        np.testing.assert_allclose(np.linalg.inv(information[pixel]), joint, rtol=1e-6)


@pytest.mark.parametrize(("factor", "worst", "passed"), [(0.99, 1.02, True), (1.01, 1.0, False), (0.95, 1.04, False)])
def test_held_out_verdicts(tmp_path: Path, factor: float, worst: float, passed: bool) -> None:
    reference = tmp_path / "reference.csv"
    reference.write_text(
        "# comment\nset_temp_c,exposure_s,n_frames,noise_floor,exp_2d,two_component,nearest_scaled\n"
        "-10,10,1,5,6,6,6.5\n-5,60,11,2,4,4,4.5\n0,300,1,10,16,15,16\n10,300,1,18,165,168,\n"
    )
    expected = heldout_real.reference(reference)
    assert np.isnan(expected[10.0, 300.0]["nearest_scaled"])
    rows = [(*cell, row["exp_2d"] * (worst if cell[0] == -5 else factor)) for cell, row in expected.items()]
    (tmp_path / "dark_model").mkdir()
    table = Table(rows=rows, names=["temperature_c", "exposure_s", "mae_adu"])
    table.write(tmp_path / "dark_model" / "held_out.ecsv", format="ascii.ecsv")
    ours = heldout_real.held_out(tmp_path, "exp_2d")
    verdicts = heldout_real.judge_model("exp_2d", ours, expected)
    assert all(v.passed is not False for v in verdicts) is passed
    del ours[-5.0, 60.0]
    assert any(v.passed is False for v in heldout_real.judge_model("exp_2d", ours, expected))


def test_running_a_process_and_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DARKPIPE_COMMAND", f"{sys.executable} -c 'import sys; print(sys.argv); x = b\"x\" * 10**8'")
    run = common.run_pipeline("--mode", "full")
    assert "['-c', '--mode', 'full']" in run.output
    ours = np.ones(60_000_000)  # at its start a child counts what its parent holds: not here
    assert 100 < run.peak_mb < 250
    assert 100 < common.run_pipeline().peak_mb < 250 < ours.nbytes / 1e6
    monkeypatch.setenv("DARKPIPE_COMMAND", f"{sys.executable} -c 'raise SystemExit(75)'")
    assert common.run_pipeline(check=False).exit_code == 75
    with pytest.raises(RuntimeError, match="ended with 75"):
        common.run_pipeline()
    assert common.print_verdicts("title", [common.Verdict("a", "1"), common.Verdict("b", "2", "<= 3", True)])
    assert not common.print_verdicts("title", [common.Verdict("b", "4", "<= 3", False)])
    assert "MISSED" in capsys.readouterr().out


def test_robust_spread() -> None:
    x = np.random.default_rng(1).normal(2, 3, 100_000)
    x[:50] = 1e9
    x[50:60] = np.nan
    assert common.robust_spread(x) == pytest.approx(3, rel=0.02)
    assert np.isnan(common.robust_spread([np.nan]))


def test_telegraph_pixels_spend_their_duty_in_the_upper_state():
    truth = Truth(Scene(size=256, per_group=100))
    shares = truth.upper_shares(np.random.default_rng(1), 300.0, 40)
    assert shares.min() >= 0
    assert shares.max() <= 1 + 1e-9
    duty, dwell = truth.duty[truth.telegraph], truth.dwell[truth.telegraph]
    for wanted in DUTIES:
        some = shares[:, (duty == wanted) & (dwell == 1.0)]
        assert some.shape[1] >= 500
        assert some.mean() == pytest.approx(wanted, abs=0.03)
    # a state that lasts an exposure on the mean is left within one more often than one that lasts ten
    within = ((shares > 0) & (shares < 1)).mean(axis=0)
    assert within[(duty == 0.5) & (dwell == 1.0)].mean() > 3 * within[(duty == 0.5) & (dwell == 10.0)].mean()


def test_linear_pixels_deviate_by_nothing_from_linear():
    linear = np.array([[[s * special_truth.activated(t, 0.56, 1.5)]] for t, s in special_truth.CELLS]) * 30.0
    made = special_truth.Campaign(np.zeros((1, 1), np.int64), linear, linear, 2, 1e9)
    assert made.deviation(10)[0, 0] == pytest.approx(0.0, abs=1e-6)
    bent = special_truth.Campaign(made.kind, linear, linear * (1 - 2e-5 * linear), 2, 1e9)
    assert bent.deviation(10)[0, 0] > 5
