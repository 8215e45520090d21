"""The plan of exposures: what is wanted, what a camera can do, and in which order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkpipe.errors import SettingsError
from hardware.camera import CameraInfo
from hardware.planning.estimate import bytes_text, duration_text, frame_bytes
from hardware.planning.plan import CapturePlan, Slot, estimate, make_plan, plan_table
from hardware.settings import AcquisitionSettings

CAMERA = CameraInfo("C", sensor_cols=100, sensor_rows=80, exposure_min_s=3.2e-5, exposure_max_s=3600.0)


def settings(cooling: Mapping[str, Any] | None = None, **capture: Any) -> AcquisitionSettings:
    return AcquisitionSettings.model_validate({"dark_capture": capture, "camera": {"cooling": dict(cooling or {})}})


def plan(info: CameraInfo | None = CAMERA, flat_s: float | None = None, **capture: Any) -> CapturePlan:
    return make_plan(settings(**capture), info, flat_s)


def exposures(found: CapturePlan) -> list[tuple[str, float]]:
    return [(e.kind, e.exposure_s) for e in found.exposures]


def camera(**changes: Any) -> CameraInfo:
    return CameraInfo("C", sensor_cols=100, sensor_rows=80, **changes)


def test_the_exposures_of_the_guide() -> None:
    found = plan(flat_s=0.7, num_darks=2)
    assert exposures(found) == [
        ("bias", 0.001),
        ("dark", 0.5),
        ("dark", 0.7),
        ("dark", 1.0),
        ("dark", 2.0),
        ("dark", 4.0),
    ]
    assert found.remarks == ()
    assert len(found.slots) == 12
    assert found.temperatures_c == (None,)


def test_undetected_flats_are_left_out_and_that_is_said() -> None:
    found = plan(exposure_factors=[2.0])
    assert exposures(found) == [("bias", 0.001), ("dark", 2.0)]
    assert len(found.remarks) == 1
    assert "flat darks are left out" in found.remarks[0]


def test_the_exposure_of_flats_that_was_detected_counts_before_the_setting() -> None:
    assert ("dark", 0.3) in exposures(plan(flat_s=0.3, flat_exposure_time=0.9))
    assert ("dark", 0.9) in exposures(plan(flat_exposure_time=0.9))


def test_bias_only_and_science_only() -> None:
    assert exposures(plan(select="bias")) == [("bias", 0.001)]
    only = plan(select="science", science_exposure_time=3.0, exposure_factors=[0.5, 2.0])
    assert exposures(only) == [("dark", 3.0)]
    assert only.remarks == ()


def test_too_long_exposures_are_dropped_and_said() -> None:
    found = plan(flat_s=0.2, science_exposure_time=20.0, max_exposure=40.0)
    assert exposures(found)[-1] == ("dark", 40.0)
    assert [r for r in found.remarks if "science × 4 (80 s) is left out" in r and "max_exposure, 40 s" in r]


def test_an_exposure_at_the_limit_is_kept_whatever_the_rounding() -> None:
    assert ("dark", 0.3) in exposures(plan(science_exposure_time=0.1, exposure_factors=[3.0], max_exposure=0.3))


def test_the_limits_of_the_camera_count() -> None:
    slow = camera(exposure_min_s=0.1, exposure_max_s=3.0)
    found = plan(slow, flat_s=0.01)
    assert exposures(found) == [("bias", 0.1), ("dark", 0.5), ("dark", 1.0), ("dark", 2.0)]
    told = " | ".join(found.remarks)
    assert "bias (0.001 s) becomes 0.1 s: the shortest that the camera takes" in told
    assert "flat (0.01 s) is left out: the camera takes 0.1 s at least" in told
    assert "science × 4 (4 s) is left out: the camera takes 3 s at most" in told


def test_exposures_are_rounded_to_the_resolution_and_that_is_said() -> None:
    found = plan(camera(exposure_resolution_s=0.3), flat_s=1.0, science_exposure_time=2.0, exposure_factors=[1.0])
    assert exposures(found) == [("bias", 0.0), ("dark", 0.9), ("dark", 2.1)]
    assert "flat (1 s) becomes 0.9 s: its resolution" in found.remarks
    fine = plan(camera(exposure_resolution_s=1e-6), flat_s=0.1)
    assert fine.remarks == ()


def test_rounding_stays_within_the_limits_and_makes_no_dark_of_no_time() -> None:
    coarse = camera(exposure_min_s=0.4, exposure_max_s=1.9, exposure_resolution_s=0.5)
    found = plan(coarse, flat_s=0.45, science_exposure_time=1.9, exposure_factors=[1.0])
    assert exposures(found) == [("bias", 0.5), ("dark", 1.5)]
    assert exposures(plan(camera(exposure_resolution_s=1.0), science_exposure_time=0.2, select="science")) == [
        ("dark", 1.0)
    ]


def test_equal_exposures_are_merged_and_that_is_said() -> None:
    found = plan(flat_s=0.5, num_darks=1)
    assert exposures(found).count(("dark", 0.5)) == 1
    assert "science × 0.5 and flat are both 0.5 s: taken once" in found.remarks
    merged = next(e for e in found.exposures if e.exposure_s == 0.5)
    assert merged.purposes == ("flat", "science × 0.5")


def test_a_dark_as_short_as_the_bias_is_the_bias() -> None:
    found = plan(flat_s=0.001)
    assert ("bias", 0.001) in exposures(found)
    assert ("dark", 0.001) not in exposures(found)
    assert "flat and bias are both 0.001 s: taken once" in found.remarks


def test_a_long_shortest_exposure_is_no_bias() -> None:
    found = plan(camera(exposure_min_s=2.0), flat_s=3.0)
    assert all(kind == "dark" for kind, _ in exposures(found))
    assert any("too long for a bias" in remark for remark in found.remarks)


def test_a_plan_of_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match="no frame can be taken: science × 1"):
        plan(select="science", science_exposure_time=100.0)


def test_limits_that_make_no_sense_are_passed_over() -> None:
    odd = camera(exposure_min_s=math.nan, exposure_max_s=-1.0, exposure_resolution_s=math.nan)
    assert exposures(plan(odd, flat_s=0.5)) == exposures(plan(None, flat_s=0.5))


def test_exposures_are_interleaved_at_each_temperature_and_bias_comes_first() -> None:
    found = plan(flat_s=0.5, num_darks=2, temperatures_c=[-10, 0.0], exposure_factors=[1.0])
    assert [slot.key for slot in found.slots[:6]] == [
        "T-10.0C/bias/0.001s/001",
        "T-10.0C/dark/0.5s/001",
        "T-10.0C/dark/1s/001",
        "T-10.0C/bias/0.001s/002",
        "T-10.0C/dark/1s/002",
        "T-10.0C/dark/0.5s/002",
    ]
    assert {slot.temperature_c for slot in found.slots[6:]} == {0.0}


@given(st.integers(2, 12).map(lambda n: 2 * n), st.integers(1, 4))
def test_a_steady_drift_has_the_same_mean_for_all_darks(count: int, factors: int) -> None:
    found = plan(num_darks=count, exposure_factors=[float(2**n) for n in range(factors)], science_exposure_time=2.0)
    times: dict[float, list[int]] = {}
    for place, slot in enumerate(found.slots):
        if slot.kind == "dark":
            times.setdefault(slot.exposure_s, []).append(place)
    assert len({sum(places) / count for places in times.values()}) == 1


@given(
    st.lists(st.floats(-80, 30).map(lambda t: round(t, 3)), min_size=1, max_size=4, unique=True),
    st.floats(1e-5, 50.0),
    st.floats(1e-6, 1.0),
    st.integers(1, 3),
)
def test_slots_are_distinct_and_possible(
    temperatures: list[float], science_s: float, flat_s: float, count: int
) -> None:
    found = plan(flat_s=flat_s, science_exposure_time=science_s, num_darks=count, temperatures_c=temperatures)
    assert len({slot.key for slot in found.slots}) == len(set(found.slots)) == len(found.slots)
    assert len(found.slots) == count * len(found.exposures) * len(found.temperatures_c)
    assert all(CAMERA.exposure_min_s * 0.99999 <= slot.exposure_s <= 60.001 for slot in found.slots)


def test_keys_are_plain_and_stable() -> None:
    assert Slot("dark", 2.0, -10.0, 3).key == "T-10.0C/dark/2s/003"
    assert Slot("bias", 3.2e-5, None, 1000).key == "uncooled/bias/0.000032s/1000"
    assert Slot("dark", 1800.0, -0.0, 1).key == "T0.0C/dark/1800s/001"
    assert Slot("dark", 1.0, -10.02, 1).key != Slot("dark", 1.0, -10.04, 1).key


def test_a_plan_that_grows_keeps_its_slots() -> None:
    assert set(plan(flat_s=0.5, num_darks=3).slots) < set(plan(flat_s=0.5, num_darks=5, max_exposure=100.0).slots)


def test_the_table_shows_what_is_there() -> None:
    found = plan(flat_s=0.5, num_darks=2, temperatures_c=[-10, 0], exposure_factors=[0.5])
    lines = plan_table(found, found.slots[3:])
    assert lines[0].split() == ["exposure", "-10.0", "°C", "0.0", "°C", "for"]
    assert lines[1].split() == ["bias", "0.001", "s", "2/2", "0/2", "bias"]
    assert lines[2].split()[:5] == ["dark", "0.5", "s", "1/2", "0/2"]
    assert len(lines) == 3
    assert len({line.index("/") for line in lines[1:]}) == 1


def test_the_estimate_counts_only_what_is_missing() -> None:
    chosen = settings(num_darks=2, temperatures_c=[-10, 0], min_exposure=0.001, exposure_factors=[1.0], bias_pause_s=0)
    found = make_plan(chosen, CAMERA, None)
    whole = estimate(found, found.slots, CAMERA, chosen, 20.0)
    assert whole.frames == 8
    assert whole.bytes == 8 * frame_bytes((80, 100))
    assert whole.exposure_s == pytest.approx(4.004)
    assert whole.total_s == pytest.approx(whole.exposure_s + whole.overhead_s + whole.cooling_s)
    rest = estimate(found, found.slots[4:], CAMERA, chosen, 20.0)
    assert rest.frames == 4
    assert rest.cooling_s < whole.cooling_s
    nothing = estimate(found, [], CAMERA, chosen, 20.0)
    assert (nothing.frames, nothing.total_s, nothing.bytes) == (0, 0, 0)


def test_cooling_is_in_the_estimate_with_its_ramp() -> None:
    capture = {"num_darks": 1, "temperatures_c": [-10.0]}
    fast = settings(**capture)
    slow = settings({"ramp_c_per_min": 1.0, "warmup": False, "stable_seconds": 30.0}, **capture)
    found = make_plan(fast, CAMERA, None)
    assert estimate(found, found.slots, CAMERA, slow, 20.0).cooling_s == pytest.approx(30 * 60 + 30)
    at_once = settings({"wait_for_cooling": False, "warmup": False}, **capture)
    assert estimate(found, found.slots, CAMERA, at_once, 20.0).cooling_s == 0
    assert (
        estimate(found, found.slots, CAMERA, fast, -10.0).cooling_s
        < estimate(found, found.slots, CAMERA, fast, 20.0).cooling_s
    )


def test_the_estimate_does_without_a_camera() -> None:
    chosen = settings(num_darks=1)
    found = make_plan(chosen, None, None)
    unknown = estimate(found, found.slots, None, chosen, None)
    assert unknown.bytes == 0
    assert "B" not in unknown.lines[0]
    assert unknown.total_s > unknown.exposure_s > 0


def test_durations_and_sizes_read_well() -> None:
    assert [duration_text(s) for s in (0, 4.26, 45.2, 150, 3600 * 3 + 301)] == [
        "0 s",
        "4.3 s",
        "45 s",
        "2 min",
        "3 h 05 min",
    ]
    assert [bytes_text(n) for n in (999, 850_000, 12_400_000_000, 3.2e12)] == ["999 B", "850 kB", "12.4 GB", "3.2 TB"]
