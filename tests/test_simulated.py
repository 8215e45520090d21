"""The generator against its own truth: statistics, Arrhenius laws, determinism, options of the read-out."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import simulated
from astropy.io import fits
from simulated import PRESETS, Recipe, Sensor, Shot

CLEAN = Recipe(rows=64, cols=64, cosmic_rate_cm2_s=0.0, hot_fraction=0.0, seed=5)


def stack(sensor: Sensor, kind: str, temperature_c: float, exposure_s: float, n: int) -> np.ndarray:
    return np.stack([sensor.expose(Shot(kind, temperature_c, exposure_s, k)).image for k in range(n)]).astype(float)


def test_it_imports_nothing_of_the_project() -> None:
    tree = ast.parse(Path(simulated.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names}.isdisjoint({"darkpipe", "steps", "hardware", "master_controller"})


@pytest.mark.parametrize("law", ["physics", "exponential"])
@pytest.mark.parametrize(("temperature_c", "exposure_s"), [(-20.0, 10.0), (0.0, 300.0)])
def test_mean_and_variance_of_frames_are_the_truth(law: str, temperature_c: float, exposure_s: float) -> None:
    sensor, n = Sensor(dataclasses.replace(CLEAN, law=law)), 60
    frames = stack(sensor, "dark", temperature_c, exposure_s, n)
    truth = sensor.bias_adu(temperature_c) + sensor.signal_adu(temperature_c, exposure_s)
    variance = sensor.frame_variance_adu2(temperature_c, exposure_s)
    z = (frames.mean(0) - truth) / np.sqrt(variance / n)
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert z.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * z.size))
    ratio = frames.var(0, ddof=1) / variance
    assert ratio.mean() == pytest.approx(1.0, abs=4 * np.sqrt(2 / (n - 1) / z.size))


def test_bias_frames_hold_the_bias_and_the_read_noise() -> None:
    sensor = Sensor(CLEAN)
    frames = stack(sensor, "bias", -10.0, 0.0, 40)
    z = (frames.mean(0) - sensor.bias_adu(-10.0)) / np.sqrt((3.125**2 + 1 / 12) / 40)
    assert abs(z.mean()) < 0.07
    assert z.std() == pytest.approx(1.0, abs=0.05)
    assert sensor.bias_adu(0.0).mean() - sensor.bias_adu(-10.0).mean() == pytest.approx(4.0, abs=0.05)
    columns = sensor.bias_adu(0.0).mean(0).std()
    assert columns == pytest.approx(3.0, rel=0.3)


def test_shot_noise_scales_with_the_gain() -> None:
    sensor = Sensor(dataclasses.replace(CLEAN, bulk_rate_adu_s=50.0, gain_e_per_adu=2.5))
    frames = stack(sensor, "dark", 0.0, 100.0, 30)
    slope = (frames.var(0, ddof=1).mean() - 1.0) / sensor.signal_adu(0.0, 100.0).mean()
    assert 1 / slope == pytest.approx(2.5, rel=0.03)


@pytest.mark.parametrize(("energy_ev", "power", "doubling_k"), [(1.12, 3.0, 3.74), (0.56, 1.5, 7.49)])
def test_doubling_temperature(energy_ev: float, power: float, doubling_k: float) -> None:
    # ln 2 / (E/kT^2 + n/T) at 273.15 K
    sensor = Sensor(dataclasses.replace(CLEAN, rows=4, cols=4))
    half = doubling_k / 2
    ratio = sensor.arrhenius(half, energy_ev, power) / sensor.arrhenius(-half, energy_ev, power)
    assert ratio == pytest.approx(2.0, rel=0.03)
    assert sensor.arrhenius(0.0, energy_ev, power) == 1.0
    slope = np.log(sensor.arrhenius(0.01, energy_ev, power) / sensor.arrhenius(-0.01, energy_ev, power)) / 0.02
    assert slope == pytest.approx(energy_ev / 8.617333e-5 / 273.15**2 + power / 273.15, rel=1e-5)


def test_hot_pixels_are_generation_and_bulk_is_diffusion() -> None:
    sensor = Sensor(Recipe(rows=200, cols=200))
    rise = np.log(sensor.signal_adu(0.0, 1.0) / sensor.signal_adu(-10.0, 1.0)) / 10
    assert sensor.hot.mean() == pytest.approx(0.004, abs=0.0012)
    assert np.median(rise[~sensor.hot]) == pytest.approx(0.137, abs=0.01)
    brightest = sensor.hot & (sensor.maps["G"] > 50)
    assert np.median(rise[brightest]) == pytest.approx(0.095, abs=0.01)
    excess = sensor.maps["G"][sensor.hot]
    assert excess.max() / excess.min() > 300


def test_exponential_law_has_the_maps_it_says() -> None:
    sensor = Sensor(dataclasses.replace(CLEAN, law="exponential"))
    m = sensor.maps
    np.testing.assert_allclose(sensor.signal_adu(-20.0, 1.0), m["A"])
    np.testing.assert_allclose(np.log(sensor.signal_adu(-10.0, 1.0) / m["A"]) / 10, m["B"])
    np.testing.assert_allclose(np.log2(sensor.signal_adu(-20.0, 2.0) / m["A"]), m["gamma"])


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    recipe = dataclasses.replace(PRESETS["tiny"], thermometer_step_k=0.1, temperature_jitter_k=0.2)
    for name in ("one", "two"):
        simulated.write_campaign(tmp_path / name, recipe)
    files = sorted((tmp_path / "one").iterdir())
    assert len(files) == 3 * 3 * 3 + 3 * 5
    assert all(f.read_bytes() == (tmp_path / "two" / f.name).read_bytes() for f in files)
    other = simulated.write_campaign(tmp_path / "three", recipe, seed=2)
    assert files[0].read_bytes() != (tmp_path / "three" / files[0].name).read_bytes()
    assert other.recipe.seed == 2


def test_a_frame_does_not_depend_on_the_rest_of_the_campaign() -> None:
    small, large = PRESETS["tiny"], dataclasses.replace(PRESETS["tiny"], n_darks=7, exposures_s=(30.0, 300.0))
    shot = Shot("dark", -10.0, 300.0, 2)
    np.testing.assert_array_equal(Sensor(small).expose(shot).image, Sensor(large).expose(shot).image)


def test_the_file_is_what_capture_software_writes(tmp_path: Path) -> None:
    recipe = dataclasses.replace(PRESETS["tiny"], em_gain=200.0, header=(("READOUTM", "Fast"),))
    sensor = simulated.write_campaign(tmp_path, recipe, folders=True)
    assert {p.name for p in tmp_path.iterdir()} == {"exp_0.000s", "exp_30.000s", "exp_100.000s", "exp_300.000s"}
    kinds = []
    for path in sorted(tmp_path.rglob("*.fits")):
        with fits.open(path) as hdus:
            header, data = hdus[0].header, hdus[0].data
            assert (header["BITPIX"], header["BZERO"], data.dtype, data.shape) == (16, 32768, np.uint16, (32, 32))
            assert (header["GAIN"], header["EGAIN"], header["OFFSET"], header["EMGAIN"]) == (100, 0.8, 50, 200)
            assert (header["READOUTM"], header["INSTRUME"], header["XBINNING"]) == ("Fast", "Simulated CCD", 1)
            kinds.append((header["IMAGETYP"], header["EXPTIME"], header["SET-TEMP"]))
    assert kinds.count(("Bias Frame", 0.0, -5.0)) == 5
    assert kinds.count(("Dark Frame", 100.0, 0.0)) == 3
    extra = simulated.add_frame(tmp_path, sensor, 0.0, 100.0, 3)
    assert fits.getheader(extra)["EXPTIME"] == 100.0


def test_unequal_and_missing_cells() -> None:
    recipe = dataclasses.replace(PRESETS["tiny"], frames_of=((-10.0, 30.0, 0), (0.0, 300.0, 9)))
    plan = simulated.shots(recipe)
    assert sum(s.kind == "dark" for s in plan) == 7 * 3 + 9
    assert not [s for s in plan if (s.kind, s.temperature_c, s.exposure_s) == ("dark", -10.0, 30.0)]


def test_twelve_bits_left_aligned() -> None:
    recipe = dataclasses.replace(CLEAN, adc_bits=12, left_aligned=True, bulk_rate_adu_s=20.0, bulk_spread=1.0)
    sensor = Sensor(recipe)
    image = sensor.expose(Shot("dark", 0.0, 100.0, 0)).image
    assert recipe.scale_factor == 16
    assert np.bitwise_or.reduce(image, axis=None) & 0xF == 0
    assert image.max() == 4095 * 16
    native = stack(sensor, "dark", -20.0, 10.0, 40).mean(0) / 16
    assert np.median(native - sensor.bias_adu(-20.0) - sensor.signal_adu(-20.0, 10.0)) == pytest.approx(0, abs=0.1)


def test_saturation_stays_at_the_top() -> None:
    image = Sensor(dataclasses.replace(CLEAN, bulk_rate_adu_s=1e4)).expose(Shot("dark", 0.0, 100.0, 0)).image
    assert (image == 65535).all()


def test_jitter_and_thermometer_step() -> None:
    sensor = Sensor(dataclasses.replace(CLEAN, temperature_jitter_k=0.3, thermometer_step_k=0.4))
    exposures = [sensor.expose(Shot("dark", 0.0, 300.0, k)) for k in range(120)]
    true, measured = (np.array([getattr(e, name) for e in exposures]) for name in ("true_c", "measured_c"))
    assert true.std() == pytest.approx(0.3, rel=0.25)
    np.testing.assert_allclose(measured / 0.4, np.round(measured / 0.4), atol=1e-9)
    assert np.abs(measured - true).max() <= 0.2 + 1e-9
    level = np.array([np.mean(e.image - sensor.bias_adu(0.0)) for e in exposures])
    assert np.corrcoef(true, level)[0, 1] > 0.95


def test_pedestal_drift_moves_the_whole_frame() -> None:
    sensor = Sensor(dataclasses.replace(CLEAN, pedestal_drift_adu=5.0))
    levels = np.median(stack(sensor, "bias", -10.0, 0.0, 60) - sensor.bias_adu(-10.0), axis=(1, 2))
    assert levels.std() == pytest.approx(5.0, rel=0.35)


def test_cosmic_rays_come_with_exposure_and_area() -> None:
    sensor = Sensor(dataclasses.replace(CLEAN, rows=128, cols=128, cosmic_rate_cm2_s=0.3))
    hit = np.array([sensor.expose(Shot("dark", -20.0, 200.0, k)).cosmic.sum() for k in range(20)])
    events = 0.3 * (128 * 24e-4) ** 2 * 200
    assert 1.5 < hit.mean() / events < 6
    assert not sensor.expose(Shot("bias", -20.0, 0.0, 0)).cosmic.any()
    exposure = sensor.expose(Shot("dark", -20.0, 200.0, 0))
    raised = exposure.image - sensor.bias_adu(-20.0) - sensor.signal_adu(-20.0, 200.0)
    assert np.median(raised[exposure.cosmic]) > 300


def test_telegraph_pixels_have_two_levels_and_glow_sits_in_a_corner() -> None:
    recipe = dataclasses.replace(CLEAN, telegraph_fraction=0.02, glow_rate_adu_s=2.0)
    sensor = Sensor(recipe)
    frames = stack(sensor, "dark", 0.0, 100.0, 30) - sensor.bias_adu(0.0) - sensor.signal_adu(0.0, 100.0)
    excess = frames.var(0) / sensor.frame_variance_adu2(0.0, 100.0)
    assert excess[sensor.telegraph].min() > 10 * excess[~sensor.telegraph].max()
    glow = sensor.maps["E"]
    assert glow.argmax() == recipe.cols - 1
    assert glow[0, -1] == 2.0
    assert glow[-1, 0] < 0.01
    assert sensor.signal_adu(-60.0, 10.0)[0, -1] == pytest.approx(20.0, rel=0.01)


def test_a_bias_that_is_a_short_dark_holds_signal() -> None:
    sensor = Sensor(dataclasses.replace(CLEAN, bias_exposure_s=1.0, bulk_rate_adu_s=100.0))
    plan = [s for s in simulated.shots(sensor.recipe) if s.kind == "bias"]
    assert {s.exposure_s for s in plan} == {1.0}
    level = np.median(sensor.expose(plan[-1]).image - sensor.bias_adu(0.0))
    assert level == pytest.approx(np.median(sensor.signal_adu(0.0, 1.0)), rel=0.05)


def test_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulated.main([str(tmp_path / "c"), "--preset", "tiny", "--seed", "3", "--set", "n_darks=1"]) == 0
    assert "24 frames of 32 x 32 (15 bias, 9 dark), law physics, seed 3" in capsys.readouterr().out
    assert len(list((tmp_path / "c").glob("*.fits"))) == 24
    with pytest.raises(SystemExit) as stop:
        simulated.main([str(tmp_path / "d"), "--set", "nonsense=1"])
    assert stop.value.code == 2


def test_an_unknown_law_is_refused() -> None:
    with pytest.raises(ValueError, match="quadratic"):
        Sensor(dataclasses.replace(CLEAN, law="quadratic"))


def test_a_set_point_is_missed_by_all_frames_of_its_temperature() -> None:
    recipe = dataclasses.replace(CLEAN, rows=4, cols=4, set_point_error_k=0.2)
    offsets = []
    for seed in range(200):
        sensor = Sensor(dataclasses.replace(recipe, seed=seed))
        taken = [sensor.expose(Shot(kind, -10.0, t, 0)).true_c + 10.0 for kind, t in (("bias", 0.0), ("dark", 30.0))]
        assert taken[0] == taken[1]
        assert taken[0] != sensor.expose(Shot("dark", 0.0, 30.0, 0)).true_c
        offsets.append(taken[0])
    assert np.std(offsets) == pytest.approx(0.2, rel=0.2)


def test_a_noisy_thermometer_flickers_between_its_steps() -> None:
    sensor = Sensor(dataclasses.replace(CLEAN, rows=4, cols=4, thermometer_step_k=0.4, thermometer_noise_k=0.1))
    readings = {round(sensor.expose(Shot("dark", -10.2, 30.0, n)).measured_c, 6) for n in range(40)}
    assert readings == {-10.4, -10.0}


def test_a_clamp_takes_the_mean_of_shielded_pixels_and_leaves_their_noise() -> None:
    recipe = dataclasses.replace(CLEAN, hot_fraction=0.01, glow_rate_adu_s=2.0, black_clamp=True)
    clamped, honest = Sensor(recipe), Sensor(dataclasses.replace(recipe, black_clamp=False))
    np.testing.assert_array_equal(clamped.signal_adu(0.0, 100.0), honest.signal_adu(0.0, 100.0))
    np.testing.assert_array_equal(honest.shown_adu(0.0, 100.0), honest.signal_adu(0.0, 100.0))
    bulk = ~clamped.hot & (clamped.maps["E"] < 0.001)
    assert abs(clamped.shown_adu(0.0, 100.0)[bulk].mean()) < 0.05 * clamped.clamp_adu(0.0, 100.0)
    frames = stack(clamped, "dark", 0.0, 100.0, 40)
    shown = clamped.bias_adu(0.0) + clamped.shown_adu(0.0, 100.0)
    z = ((frames.mean(0) - shown) / np.sqrt(clamped.frame_variance_adu2(0.0, 100.0) / 40))[~clamped.hot]
    assert z.std() == pytest.approx(1.0, abs=0.06)
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
