"""What is rejected, and what must not be: simulated leaks and faults, glow, drift, and the real frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from darkpipe.files.frames import FrameStack, find_frames, survey_frame
from hardware.camera import CameraInfo, Exposure
from hardware.errors import CaptureError
from hardware.frames.checks import FrameChecks
from hardware.frames.frame_file import FrameTemperatures, write_dark
from hardware.frames.frame_measure import FrameMeasure, Gradient
from hardware.planning.slots import Slot
from hardware.simulator.sensor import Sensor
from hardware.simulator.sensor_spec import SensorSpec

Pixels = NDArray[np.uint16]
SHAPE = (128, 192)
INFO = CameraInfo("C", sensor_rows=SHAPE[0], sensor_cols=SHAPE[1])
BIAS = Slot("bias", 0.001, -10.0, 1)
DARK = Slot("dark", 60.0, -10.0, 1)


def frame(level_adu: float = 500.0, *, seed: int, sigma_adu: float = 5.0, shape: tuple[int, int] = SHAPE) -> Pixels:
    """Read noise around a level."""
    return np.random.default_rng(seed).normal(level_adu, sigma_adu, shape).astype(np.uint16)


def slope(range_adu: float, shape: tuple[int, int] = SHAPE) -> Pixels:
    """A plane from 0 in one corner."""
    down, across = np.linspace(0, 0.5, shape[0])[:, None], np.linspace(0, 0.5, shape[1])
    return (range_adu * (down + across)).astype(np.uint16)


def taught(*, biases: int = 3, darks: int = 0, dark_adu: float = 560.0) -> FrameChecks:
    """Checks that have accepted some frames."""
    checks = FrameChecks(INFO)
    for number in range(biases):
        checks.accept(BIAS, frame(seed=number))
    for number in range(darks):
        checks.accept(DARK, frame(dark_adu, seed=100 + number))
    return checks


def test_a_good_frame_passes() -> None:
    checks = taught(darks=3)
    assert checks.check(DARK, frame(560, seed=7)) == []
    assert checks.warnings == []


@pytest.mark.parametrize("shape", [(192, 128), (128, 191), (64, 64), (0, 0)])
def test_other_dimensions_are_rejected(shape: tuple[int, int]) -> None:
    [reason] = FrameChecks(INFO).check(DARK, np.ones(shape, np.uint16))
    assert reason.startswith("dimensions:")
    assert "128 x 192" in reason


def test_another_type_is_rejected() -> None:
    assert FrameChecks(INFO).check(DARK, np.ones(SHAPE))[0].startswith("dimensions:")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, 500, 65535])
def test_a_constant_image_is_rejected(value: int) -> None:
    [reason] = FrameChecks(INFO).check(DARK, np.full(SHAPE, value, np.uint16))
    assert reason == f"constant image: all pixels are {value}"


def test_a_duplicate_of_any_frame_is_rejected() -> None:
    checks = taught()
    [reason] = checks.check(DARK, frame(seed=1))
    assert "duplicate" in reason
    assert BIAS.key in reason
    almost = frame(seed=1)
    almost[5, 5] += 1
    assert checks.check(BIAS, almost) == []


def test_a_frame_that_was_rejected_does_not_pass_when_it_comes_again() -> None:
    checks = taught(darks=3)
    bad = frame(900, seed=7)
    assert "level" in checks.check(DARK, bad)[0]
    assert "duplicate" in checks.check(DARK, bad.copy())[0]


def test_many_saturated_pixels_are_rejected_and_some_are_not() -> None:
    pixels = frame(seed=1)
    pixels.reshape(-1)[: pixels.size // 50] = 65535
    assert FrameChecks(INFO).check(DARK, pixels) == []
    pixels.reshape(-1)[: pixels.size // 10] = 65535
    assert "saturated: 10%" in FrameChecks(INFO).check(DARK, pixels)[0]


def test_saturation_is_that_of_the_converter_and_of_the_full_well() -> None:
    twelve = CameraInfo("C", sensor_rows=SHAPE[0], sensor_cols=SHAPE[1], max_adu=4095)
    pixels = frame(seed=1)
    pixels.reshape(-1)[: pixels.size // 10] = 4095
    assert "at 4095 ADU" in FrameChecks(twelve).check(DARK, pixels)[0]
    full = frame(50_000, seed=2)
    assert "saturated: a level of 500" in FrameChecks(INFO).check(DARK, full)[0]


def test_a_driver_that_does_not_know_its_highest_count_is_told_of() -> None:
    twelve = CameraInfo("C", sensor_rows=SHAPE[0], sensor_cols=SHAPE[1], max_adu=4095)
    checks = FrameChecks(twelve)
    assert checks.check(DARK, (frame(seed=1) // 4 * 16 + 5000).astype(np.uint16)) == []
    assert "more than the 4095" in checks.warnings[0]


def test_an_offset_that_cuts_the_noise_off_is_told_of_and_passes() -> None:
    checks = FrameChecks(INFO)
    for seed in range(4):
        cut = np.clip(np.random.default_rng(seed).normal(2, 3, SHAPE), 0, None).astype(np.uint16)
        assert checks.check(BIAS, cut) == []
        assert "the offset setting is too low" in checks.warnings[0]
        checks.accept(BIAS, cut)


@pytest.mark.parametrize("value", [0, 321])
def test_rows_that_a_transfer_has_lost_are_found(value: int) -> None:
    torn = frame(seed=9)
    torn[-20:] = value
    assert "20 of 128 rows" in FrameChecks(INFO).check(BIAS, torn)[0]
    assert "20 of 128 rows" in taught().check(BIAS, torn)[0]


def test_masked_rows_that_are_in_every_frame_pass() -> None:
    checks = FrameChecks(INFO)
    for seed in range(3):
        masked = frame(seed=seed)
        masked[:8] = 0
        assert checks.check(BIAS, masked) == []
        checks.accept(BIAS, masked)


@pytest.mark.parametrize("away_adu", [-150, 150])
def test_another_level_than_that_of_the_setting_is_rejected(away_adu: int) -> None:
    [reason, *_] = taught(darks=3).check(DARK, frame(560 + away_adu, seed=7))
    assert reason.startswith("level:")
    assert "60 s" in reason


def test_drift_of_the_pedestal_passes() -> None:
    checks = taught(darks=3)
    assert checks.check(BIAS, frame(514, seed=7)) == []
    assert checks.check(DARK, frame(574, seed=8)) == []


def test_dark_current_may_differ_by_what_the_temperature_may() -> None:
    checks = taught(darks=3, dark_adu=2500.0)
    assert checks.check(DARK, frame(3000, seed=7)) == []
    assert "level" in checks.check(DARK, frame(3600, seed=8))[0]


def test_one_odd_frame_does_not_move_the_running_median() -> None:
    checks = taught(darks=4)
    checks.accept(DARK, frame(3000, seed=7))
    assert checks.check(DARK, frame(560, seed=8)) == []
    assert checks.check(DARK, frame(3000, seed=9)) != []


def test_settings_have_levels_of_their_own() -> None:
    checks = taught(darks=3)
    assert checks.check(Slot("dark", 600.0, -10.0, 1), frame(1100, seed=7)) == []
    assert checks.check(Slot("dark", 60.0, 0.0, 1), frame(1100, seed=8)) == []


def test_without_a_set_point_the_level_of_darks_is_only_told() -> None:
    checks = FrameChecks(INFO)
    warm = Slot("dark", 60.0, None, 1)
    for seed in range(3):
        checks.accept(warm, frame(560, seed=seed))
    assert checks.check(warm, frame(900, seed=7)) == []
    assert "level" in checks.warnings[0]
    assert checks.check(warm, frame(560, seed=8)) == []
    assert checks.warnings == []


def test_a_light_leak_that_begins_is_rejected() -> None:
    checks = taught(darks=3)
    assert "light leak" in checks.check(DARK, frame(560, seed=7) + slope(40))[-1]
    assert checks.check(DARK, frame(560, seed=8) + slope(4)) == []


def test_a_light_leak_from_the_start_is_rejected() -> None:
    assert "light leak" in taught().check(DARK, frame(510, seed=7) + slope(100))[0]


def test_a_gradient_of_the_dark_current_passes() -> None:
    assert taught().check(DARK, frame(700, seed=7) + slope(100)) == []


def simulated(
    spec: SensorSpec, *, leak: Callable[[int], float] = lambda number: 0.0, rounds: int = 4
) -> tuple[list[str], list[str]]:
    """Reasons and warnings of a whole campaign, each with its slot."""
    sensor = Sensor(spec)
    checks = FrameChecks(CameraInfo("C", sensor_rows=spec.rows, sensor_cols=spec.cols, max_adu=spec.max_adu))
    reasons, warnings, number = [], [], 0
    random = np.random.default_rng(3)
    for temperature_c in (-10.0, 10.0):
        for turn in range(1, rounds + 1):
            for exposure_s in (0.001, 2.0, 60.0, 300.0):
                slot = Slot("bias" if exposure_s < 0.01 else "dark", exposure_s, temperature_c, turn)
                actual_c = temperature_c + random.uniform(-0.8, 0.8)
                pixels = sensor.dark_frame(exposure_s, actual_c, number, light_adu_per_s=leak(number))
                found = checks.check(slot, pixels)
                reasons += [f"{slot.key} {reason}" for reason in found]
                warnings += [f"{slot.key} {warning}" for warning in checks.warnings]
                if not found:
                    checks.accept(slot, pixels)
                number += 1
    return reasons, warnings


@pytest.mark.parametrize(
    "spec",
    [
        SensorSpec(rows=64, cols=64),
        SensorSpec(rows=200, cols=120, pedestal_drift_adu=4.0),
        SensorSpec(rows=128, cols=128, hot_fraction=0.03, cosmic_rays_per_cm2_min=200.0, telegraph_fraction=0.05),
        SensorSpec(rows=128, cols=128, bias_column_adu=15.0, bias_pixel_adu=8.0, bias_row_ramp_adu=60.0),
        SensorSpec(rows=128, cols=128, adc_bits=12, electrons_per_adu=16.0, bias_level_adu=60.0),
        SensorSpec(rows=128, cols=128, electrons_per_adu=0.25, read_noise_e=1.2),
        SensorSpec(rows=128, cols=128, glow_e_s=5.0, glow_reach=0.1),
    ],
    ids=["small", "drift", "defects", "pattern", "12 bits", "low noise", "glow in a corner"],
)
def test_nothing_that_is_normal_is_rejected_or_told(spec: SensorSpec) -> None:
    assert simulated(spec) == ([], [])


@pytest.mark.parametrize("reach", [0.3, 0.6])
@pytest.mark.parametrize("glow_e_s", [1.0, 20.0])
def test_glow_over_much_of_the_frame_is_told_but_not_rejected(glow_e_s: float, reach: float) -> None:
    reasons, warnings = simulated(SensorSpec(rows=128, cols=128, glow_e_s=glow_e_s, glow_reach=reach))
    assert reasons == []
    assert any("glow" in warning for warning in warnings)


@pytest.mark.parametrize("light_adu_per_s", [1.0, 20.0])
def test_simulated_leaks_are_found_from_the_start(light_adu_per_s: float) -> None:
    reasons, _ = simulated(SensorSpec(rows=128, cols=128), leak=lambda number: light_adu_per_s)
    assert {r.split()[0] for r in reasons if "light leak" in r} >= {f"T-10.0C/dark/300s/{n:03d}" for n in range(1, 5)}


def test_a_simulated_leak_that_grows_is_found() -> None:
    reasons, _ = simulated(SensorSpec(rows=128, cols=128), leak=lambda number: 0.03 * max(number - 6, 0))
    found = {r.split()[0] for r in reasons if r.startswith("T-10.0C")}
    assert found >= {"T-10.0C/dark/300s/004", "T-10.0C/dark/300s/003"}
    assert not any("001" in key for key in found)


def test_what_is_on_disk_is_learned_again(tmp_path: Path) -> None:
    now = datetime(2025, 7, 29, tzinfo=UTC)
    for number in range(3):
        write_dark(
            tmp_path / f"{number}.fits",
            Exposure(frame(560, seed=number), 60.0, now, now, 60.0),
            info=INFO,
            slot=DARK,
            frame_id="x",
            session="s",
            temperatures=FrameTemperatures(),
        )
    checks = FrameChecks(INFO)
    for number in range(3):
        checks.learn_file(DARK, tmp_path / f"{number}.fits")
    assert "duplicate" in checks.check(DARK, frame(560, seed=2))[0]
    assert "level" in checks.check(DARK, frame(700, seed=9))[0]
    with pytest.raises(CaptureError, match="cannot be read"):
        checks.learn_file(DARK, tmp_path / "gone.fits")


def test_the_plane_is_that_of_the_majority() -> None:
    rows, cols = np.mgrid[0:16, 0:16]
    plane = 3.0 * rows + 1.0 * cols
    glowing = plane.copy()
    glowing[:6, :6] += 5000
    glowing[:, 12] += 900
    for blocks in (plane, glowing):
        found = Gradient.of(blocks)
        assert found is not None
        assert found.range_adu == pytest.approx(64, rel=0.05)
        assert found.evenness > 0.9
    assert Gradient.of(plane[:3]) is None


def test_the_level_is_robust_and_finer_than_a_count() -> None:
    measure = FrameMeasure.of((frame(500.3, seed=1, shape=(1024, 1024)) + 0).astype(np.uint16))
    assert measure.level_adu == pytest.approx(499.8, abs=0.1)  # counts are cut off, so half a count below
    hot = frame(500.3, seed=1, shape=(1024, 1024))
    hot[::7, ::11] = 60_000
    assert FrameMeasure.of(hot).level_adu == pytest.approx(measure.level_adu, abs=0.1)
    assert FrameMeasure.of(hot).sigma_adu == pytest.approx(5.0, rel=0.15)


@pytest.mark.real
def test_no_real_dark_is_rejected_but_the_one_that_holds_jupiter(real_data: Path) -> None:
    groups = defaultdict(list)
    for path in find_frames(real_data):
        found = survey_frame(path)
        info = found.info
        if "headers" in path.parts or found.rejected or info is None or info.kind not in ("dark", "bias"):
            continue
        with FrameStack([path], [found.hdu], found.rows, found.cols) as stack:
            pixels = np.clip(stack.read_rows(0, found.rows)[0], 0, 65535).astype(np.uint16)
        exposure_s = (info.exposure_s or 0.0) if info.kind == "dark" else 0.0
        kind = "dark" if info.kind == "dark" else "bias"
        slot = Slot(kind, exposure_s, round((info.temperature_c or 0.0) / 2) * 2.0, 1)  # type: ignore[arg-type]
        groups[path.parent, pixels.shape].append((exposure_s, path.name, slot, pixels))
    assert sum(map(len, groups.values())) > 140
    rejected, told = [], []
    for (_, shape), frames in groups.items():
        checks = FrameChecks(CameraInfo("C", sensor_rows=shape[0], sensor_cols=shape[1]))
        for _, name, slot, pixels in sorted(frames, key=lambda f: f[:2]):
            reasons = checks.check(slot, pixels)
            rejected += [name] if reasons else []
            told += [name] if checks.warnings else []
            if not reasons:
                checks.accept(slot, pixels)
    assert rejected == ["JupiterandIo.fit"]
    assert told == ["Dark-0001_300s.fit", "Dark-0002_300s.fit", "Dark-0003_300s.fit"]  # light, or glow: see the picture


@pytest.mark.parametrize("value", [0, 321])
def test_columns_that_a_transfer_has_lost_are_found(value: int) -> None:
    torn = frame(seed=9)
    torn[:, -20:] = value
    assert "20 of 192 columns" in FrameChecks(INFO).check(BIAS, torn)[0]
    assert "20 of 192 columns" in taught().check(BIAS, torn)[0]


def test_a_hole_of_zeros_is_found_and_a_dead_corner_is_not_found_again_and_again() -> None:
    torn = frame(seed=9)
    torn[30:80, 40:90] = 0
    assert "10.2% of the pixels are 0" in FrameChecks(INFO).check(BIAS, torn)[0]
    small = frame(seed=9)
    small[:20, :20] = 0
    checks = FrameChecks(INFO)
    assert checks.check(BIAS, small) == []
    checks.accept(BIAS, small)
    larger = frame(seed=10)
    larger[:20, :40] = 0
    assert "3.3% of the pixels are 0" in checks.check(BIAS, larger)[0]


def test_what_was_checked_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    checks, pixels = FrameChecks(INFO), frame(seed=3)
    assert checks.check(BIAS, pixels) == []
    monkeypatch.setattr(FrameMeasure, "of", lambda pixels: pytest.fail("measured twice"))
    checks.accept(BIAS, pixels)
