"""Calibration of noise maps: known answers, other ways to the same numbers, what cannot be fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from em_frames import COSMIC_E, GRID, em_sensor, stacks

from darkpipe.errors import DesignError
from darkpipe.science.flags import DQ
from darkpipe.science.noise_maps import NoiseMapCalibration, NoiseMapOptions, NoiseMaps
from darkpipe.science.regions import ROMAN_CORONAGRAPH, Area, DetectorRegions

SHAPE = (40, 60)
REGIONS = DetectorRegions(
    40, 60, image=Area(4, 22, 30, 30), active=Area(0, 20, 36, 36), prescan=Area(0, 0, 40, 16), telemetry_rows=(-1, None)
)
EXACT = NoiseMapOptions(dark_outside="fitted")


def exact_maps(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rng.normal(0, 20, SHAPE), rng.gamma(2, 0.01, SHAPE), rng.gamma(2, 5e-4, SHAPE)


def calibration(
    grid: tuple[tuple[float, float], ...] = GRID,
    options: NoiseMapOptions = EXACT,
    regions: DetectorRegions = REGIONS,
    noise_e: float = 0.0,
    **more: object,
) -> tuple[NoiseMapCalibration, tuple[np.ndarray, ...]]:
    """Three frames a stack of known maps."""
    rng = np.random.default_rng(3)
    truth = exact_maps(rng)
    cal = NoiseMapCalibration(regions, options)
    for g, t in grid:
        frames = np.repeat((truth[0] + g * (truth[1] + t * truth[2]))[None], 3, axis=0)
        cal.add(frames + noise_e * rng.standard_normal(frames.shape), g, t, **more)
    return cal, truth


def values(maps: NoiseMaps) -> tuple[np.ndarray, ...]:
    return maps.fixed_e, maps.cic_e, maps.dark_e_per_s


@pytest.mark.parametrize("weighting", ["noise", "frames", "equal"])
def test_noise_free_frames_give_the_maps_back(weighting: str) -> None:
    cal, truth = calibration(options=replace(EXACT, weighting=weighting))
    maps = cal.fit()
    for found, true in zip(values(maps), truth, strict=True):
        np.testing.assert_allclose(found[:-1], true[:-1], rtol=1e-5, atol=1e-6)
        assert np.isnan(found[-1]).all()
    assert (maps.adjusted_r2[:-1] > 1 - 1e-5).all()
    np.testing.assert_array_equal(maps.dq[:-1], 0)
    assert (maps.dq[-1] == DQ.FIT_FAILED).all()
    assert (maps.unusable_stacks == 0).all()


@pytest.mark.parametrize("weighting", ["frames", "equal"])
def test_fit_is_that_of_lstsq(weighting: str) -> None:
    """Values, R² and, for the equal weights of equal stacks, the shape of the covariance."""
    cal, _ = calibration(options=replace(EXACT, weighting=weighting), noise_e=50.0)
    maps = cal.fit()
    y = np.stack([s.mean for s in cal._stacks.values()])
    g, t = np.array(list(cal._stacks)).T
    design = np.stack([np.ones_like(g), g, g * t], axis=1)
    expected, *_ = np.linalg.lstsq(design, y, rcond=None)
    for found, true in zip(values(maps), expected, strict=True):
        scale = np.abs(true).mean()
        np.testing.assert_allclose(found[:-1].ravel(), true[: found[:-1].size], rtol=1e-5, atol=1e-5 * scale)
    fitted = design @ expected
    residual, model = ((y - fitted) ** 2).sum(0), ((y.mean(0) - fitted) ** 2).sum(0)
    adjusted = 1 - residual / (residual + model) * 5 / 3
    np.testing.assert_allclose(maps.adjusted_r2[:-1].ravel(), adjusted[: 39 * 60], rtol=1e-4, atol=1e-5)
    noise2 = np.array([s.noise_e**2 / 3 for s in maps.stacks])
    order = np.argsort(g * 1e6 + t)
    pinv = np.linalg.pinv(design[order])
    sandwich = (pinv * noise2) @ pinv.T
    np.testing.assert_allclose(np.median(maps.fixed_error_e[:-1]), np.sqrt(sandwich[0, 0]), rtol=1e-4)
    np.testing.assert_allclose(np.median(maps.cic_error_e[:-1]), np.sqrt(sandwich[1, 1]), rtol=1e-4)


def test_frames_in_any_order_and_number() -> None:
    rng = np.random.default_rng(4)
    sensor = em_sensor(rng, SHAPE)
    whole, single = NoiseMapCalibration(REGIONS), NoiseMapCalibration(REGIONS)
    parts = []
    for frames, g, t, masks in stacks(sensor, rng, [4] * 6):
        whole.add(frames, g, t, masks)
        parts += [(frame, g * (1 + 1e-5), t, mask) for frame, mask in zip(frames, masks, strict=True)]
    for i in rng.permutation(len(parts)):
        single.add(*parts[i])
    a, b = whole.fit(), single.fit()
    for one, other, error in zip(
        values(a), values(b), (a.fixed_error_e, a.cic_error_e, a.dark_error_e_per_s), strict=True
    ):
        np.testing.assert_allclose((one - other)[:-1], 0, atol=1e-3 * float(np.nanmax(error)))
    assert [s.frames for s in b.stacks] == [4] * 6


def test_a_stack_that_is_masked_is_not_used() -> None:
    cal, truth = calibration(GRID[:5])
    masks = np.zeros((4, *SHAPE), np.uint16)
    masks[:, 5, 5], masks[:3, 6, 6], masks[:2, 7, 7] = 2, 4, 8
    cic, dark = truth[1:]
    frames = np.repeat((truth[0] + 100 * (cic + 30 * dark))[None], 4, axis=0)
    frames[masks > 0] = COSMIC_E
    cal.add(frames, 100, 30, masks)
    maps = cal.fit()
    for found, true in zip(values(maps), truth, strict=True):
        np.testing.assert_allclose(found[:-1], true[:-1], rtol=1e-5, atol=1e-6)
    assert maps.unusable_stacks.sum() == 2
    assert maps.dq[5, 5] == maps.dq[6, 6] == DQ.FEW_SAMPLES
    assert maps.dq[7, 7] == 0


def test_below_four_usable_stacks_a_pixel_is_flagged() -> None:
    masks = np.zeros((3, *SHAPE), np.uint16)
    masks[:, 8, 30] = 16
    rng = np.random.default_rng(3)
    truth = exact_maps(rng)
    cal = NoiseMapCalibration(REGIONS)
    for i, (g, t) in enumerate(GRID):
        frames = np.repeat((truth[0] + g * (truth[1] + t * truth[2]))[None], 3, axis=0)
        frames[:, 9, 31] = np.nan if i < 3 else frames[:, 9, 31]
        cal.add(frames, g, t, masks if i < 3 else None)
    maps = cal.fit()
    for pixel, bits in (((8, 30), 16), ((9, 31), 0)):
        assert maps.dq[pixel] == DQ.FIT_FAILED | DQ.FEW_SAMPLES
        assert maps.unusable_stacks[pixel] == 3
        assert maps.input_dq[pixel] == bits
        for plane in (*values(maps), *maps.covariance, maps.chi2, maps.adjusted_r2):
            assert np.isnan(plane[pixel])
    assert np.isfinite(maps.fixed_e[:-1]).sum() == 39 * 60 - 2


def test_a_pixel_whose_stacks_are_left_with_one_gain_is_flagged() -> None:
    grid = ((1.0, 5.0), *((50.0, t) for t in (1.0, 2.0, 5.0, 9.0)))
    cal, _ = calibration(grid[1:], noise_e=5.0)
    masks = np.zeros(SHAPE, bool)
    masks[2, 2] = True
    cal.add(np.zeros(SHAPE), 1.0, 5.0, masks)
    maps = cal.fit()
    assert maps.dq[2, 2] == DQ.FIT_FAILED | DQ.FEW_SAMPLES
    assert np.isnan(maps.covariance[:, 2, 2]).all()
    assert maps.dq[2, 3] == 0


def test_designs_that_carry_no_maps_are_refused() -> None:
    for grid, words in (
        (GRID[:3], "at least 4 stacks"),
        (tuple((10.0, t) for t in (1.0, 2.0, 3.0, 4.0)), "one EM gain"),
        (tuple((g, 3.0) for g in (1.0, 2.0, 3.0, 4.0)), "one exposure"),
        (((1.0, 1.0), (1.0, 1.0), (2.0, 2.0), (2.0, 2.0), (1.0, 1.0005)), "at least 4 stacks"),
        (tuple((g, 3.0 - 1.0 / g) for g in (1.0, 2.0, 3.0, 4.0)), "change together"),
    ):
        cal, _ = calibration(grid)
        with pytest.raises(DesignError, match=words):
            cal.fit()
    cal = NoiseMapCalibration(REGIONS)
    with pytest.raises(DesignError, match="at least 4 stacks"):
        cal.fit()


def test_settings_and_shapes_are_checked() -> None:
    cal = NoiseMapCalibration(REGIONS)
    for g, t in ((0.5, 1.0), (np.nan, 1.0), (2.0, -1.0), (2.0, np.inf)):
        with pytest.raises(DesignError, match=r"EM gain|exposure"):
            cal.add(np.ones(SHAPE), g, t)
    with pytest.raises(DesignError, match="frames of shape"):
        cal.add(np.ones((10, 10)), 2.0, 1.0)
    for wrong in (
        {"weighting": "yes"}, {"negatives": "no"}, {"dark_outside": "1"}, {"frame_errors": "x"}, {"least_share": 2.0},
        {"gain_stages": 0}, {"read_noise_e": 0.0}, {"k_gain_e_per_dn": -1.0},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(wrong))):
            NoiseMapOptions(**wrong)  # type: ignore[arg-type]


def test_single_frames_need_a_read_noise_or_errors() -> None:
    rng = np.random.default_rng(6)
    sensor = em_sensor(rng, (80, 80))
    whole = DetectorRegions.whole(80, 80)
    for options, errors in (
        (NoiseMapOptions(), None),
        (NoiseMapOptions(read_noise_e=100.0), None),
        (NoiseMapOptions(), 100.0),
    ):
        cal = NoiseMapCalibration(whole, options)
        for frames, g, t, _ in stacks(sensor, rng, [1] * 6, cosmics=0.0):
            cal.add(frames, g, t, errors=None if errors is None else np.full(frames.shape, errors))
        if options.read_noise_e is None and errors is None:
            with pytest.raises(DesignError, match="noise of a frame is unknown"):
                cal.fit()
            continue
        maps = cal.fit()
        pulls = (maps.fixed_e - sensor.fixed_e) / maps.fixed_error_e
        assert np.nanstd(pulls) == pytest.approx(1.0, abs=0.05)
        assert np.isnan(maps.read_noise_e)


def test_choices_that_change_values() -> None:
    kept, _ = calibration(options=NoiseMapOptions(), noise_e=50.0)
    zeroed, _ = calibration(options=NoiseMapOptions(negatives="zero"), noise_e=50.0)
    a, b = kept.fit(), zeroed.fit()
    assert (a.cic_e < 0).any()
    assert (a.dark_e_per_s < 0).any()
    assert not (b.cic_e < 0).any()
    assert not (b.dark_e_per_s < 0).any()
    assert (b.fixed_e < 0).any()
    assert b.summary == a.summary
    assert b.bias_offset == a.bias_offset
    outside = np.ones(SHAPE, bool)
    outside[REGIONS.collecting.slices] = False
    outside[-1] = False
    assert (a.dark_e_per_s[outside] == 0).all()
    assert (a.covariance[[2, 4, 5]][:, outside] == 0).all()
    assert (calibration(noise_e=50.0)[0].fit().dark_e_per_s[outside] != 0).any()


def test_figures_of_areas_and_the_bias_offset() -> None:
    cal, truth = calibration(options=replace(EXACT, k_gain_e_per_dn=7.0), noise_e=20.0)
    maps = cal.fit()
    assert set(maps.summary) == {"image", "collecting", "prescan"}
    for letter, plane, true in zip("FCD", values(maps), truth, strict=True):
        found, area = maps.summary["image"][letter], plane[REGIONS.image.slices]
        assert found.mean == pytest.approx(float(area.mean()), rel=1e-4)
        assert found.median == pytest.approx(float(np.median(area)), rel=1e-6)
        assert found.variance == pytest.approx(float(area.var()), rel=1e-4)
        assert found.mean == pytest.approx(
            float(true[REGIONS.image.slices].mean()), abs=5 * np.sqrt(found.error_variance / 900)
        )
    offset = maps.bias_offset
    assert offset.unit == "DN"
    assert offset.low < offset.value < offset.high
    assert abs(offset.value) < 1.0
    assert offset.error == max(offset.high - offset.value, offset.value - offset.low)
    stack_means = [s.mean.reshape(SHAPE) for _, s in sorted(cal._stacks.items())]
    f, c, d = values(maps)
    expected = [
        np.nanmedian((y - f - s.em_gain * (c + s.exposure_s * d))[REGIONS.prescan.slices])  # type: ignore[union-attr]
        for y, s in zip(stack_means, maps.stacks, strict=True)
    ]
    assert offset.value == pytest.approx(np.mean(expected) / 7.0, abs=1e-5)
    plain = calibration(regions=DetectorRegions.whole(*SHAPE), noise_e=20.0)[0].fit()
    assert np.isnan(plain.bias_offset.value)
    assert plain.bias_offset.unit == "e-"
    assert set(plain.summary) == {"image", "collecting"}


def test_regions() -> None:
    assert ROMAN_CORONAGRAPH.telemetry.sum() == 1
    assert ROMAN_CORONAGRAPH.telemetry[1199]
    assert DetectorRegions.whole(5, 6).collecting == Area(0, 0, 5, 6)
    for wrong in (
        {"image": Area(0, 0, 11, 5)},
        {"image": Area(-1, 0, 5, 5)},
        {"image": Area(0, 0, 5, 0)},
        {"image": Area(0, 0, 5, 5), "prescan": Area(0, 8, 5, 5)},
        {"image": Area(0, 0, 5, 5), "telemetry_rows": (4, 6)},
    ):
        with pytest.raises(DesignError, match="area"):
            DetectorRegions(10, 10, **wrong)  # type: ignore[arg-type]
