"""Rows of the table of faults that take little time, and proof that the table finds what it is to find."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from benchmarks.acquisition_faults import run_cases, told
from benchmarks.campaign_judge import Judgement, RememberingSensor, judge
from benchmarks.fault_cases import MID, QUICK, all_cases, sim
from benchmarks.fault_rig import SPEC, Case, Rig, Row, promises_broken, run_case, settings_of
from hardware.camera import CameraInfo, Exposure
from hardware.frames.checks import FrameChecks
from hardware.frames.frame_file import FrameTemperatures, write_dark
from hardware.planning.slots import Slot

INFO = CameraInfo("simulated", gain=100, offset=50, sensor_cols=SPEC.cols, sensor_rows=SPEC.rows)
FRAME = "T-5.0C/exp_20.000s/dark_20250101_000000_001.fits"
Spoil = Callable[[Path], None]


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, int], Row]:
    """The quick rows, several side by side."""
    numbers = {(case.name, case.after): number for number, case in enumerate(all_cases())}
    return dict(zip(QUICK, run_cases([numbers[key] for key in QUICK], processes=5), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("key", QUICK, ids=[f"{name}, after {after}" for name, after in QUICK])
def test_a_fault_keeps_the_promise(key: tuple[str, int], rows: dict[tuple[str, int], Row]) -> None:
    assert not rows[key].broken, told(rows[key])


def test_bad_frames_are_found_when_the_checks_are_blind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrameChecks, "check", lambda *arguments: [])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    how, inject = sim("duplicate_image")
    row = run_case(Case("duplicates", how, inject, MID, capture={"num_darks": 2}), tmp_path)
    assert row.outcome == "completed"
    assert row.judgement.faults["duplicate"] == 12 - MID
    assert row.broken


def taken(folder: Path, sensor: RememberingSensor, *, number: int = 0, **more: Any) -> Path:
    """A right frame of 20 s at -5 °C in a library."""
    given = {"gain": 100, "offset": 50, **more}
    pixels = sensor.dark_frame(20.0, -5.0, number, **given)
    return written(folder / FRAME.replace("_001.", f"_{number + 1:03d}."), pixels)


def written(path: Path, pixels: NDArray[np.uint16]) -> Path:
    now = datetime(2025, 1, 1, tzinfo=UTC)
    temperatures = FrameTemperatures(-5.0, -5.0, -5.0, set_point=-5.0)
    write_dark(
        path,
        Exposure(pixels, 20.0, now, now, 20.0),
        info=INFO,
        slot=Slot("dark", 20.0, -5.0, 1),
        frame_id="x",
        session="s",
        temperatures=temperatures,
    )
    return path


def judged(folder: Path, sensor: RememberingSensor) -> Judgement:
    return judge(folder, sensor, bias_s=0.001, tolerance_c=0.5)


@pytest.fixture
def sensor() -> RememberingSensor:
    return RememberingSensor(SPEC)


def test_the_judge_accepts_right_frames(tmp_path: Path, sensor: RememberingSensor) -> None:
    for number in range(3):
        taken(tmp_path, sensor, number=number)
    found = judged(tmp_path, sensor)
    assert found.whole([-5.0], [20.0], 3)
    assert not found.whole([-5.0], [20.0], 4)
    assert not found.whole([-5.0, 0.0], [20.0], 3)


def relabelled(keyword: str, value: object) -> Spoil:
    """Another value in the header, with checksums that fit."""

    def spoil(path: Path) -> None:
        with fits.open(path, mode="update", checksum=True) as hdus:
            hdus[0].header[keyword] = value

    return spoil


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2880])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5000] ^= 1
    path.write_bytes(content)


def copied(path: Path) -> None:
    path.with_name(path.name.replace("_001", "_002")).write_bytes(path.read_bytes())


def moved(path: Path) -> None:
    folder = path.parent.with_name("exp_60.000s")
    folder.mkdir()
    path.rename(folder / path.name)


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (cut, "truncated"),
        (flipped, "truncated"),
        (copied, "duplicate"),
        (moved, "mislabelled"),
        (relabelled("EXPTIME", 21.0), "mislabelled"),
        (relabelled("CCD-TEMP", -4.0), "mislabelled"),
        (relabelled("GAIN", 101), "mislabelled"),
        (relabelled("OFFSET", 51), "mislabelled"),
        (relabelled("IMAGETYP", "Bias Frame"), "mislabelled"),
        (lambda path: written(path, np.full((96, 128), 512, np.uint16)), "wrong"),
        (lambda path: written(path, np.full((96, 127), 512, np.uint16)), "wrong"),
    ],
)  # fmt: skip
def test_the_judge_finds(spoil: Spoil, kind: str, tmp_path: Path, sensor: RememberingSensor) -> None:
    spoil(taken(tmp_path, sensor))
    assert dict(judged(tmp_path, sensor).faults) == {kind: 1}


def test_the_judge_finds_light(tmp_path: Path, sensor: RememberingSensor) -> None:
    taken(tmp_path, sensor, light_adu_per_s=2.0)
    assert dict(judged(tmp_path, sensor).faults) == {"wrong": 1}


CASE = Case("a fault", "", lambda rig: None, stops="names it", limit_s=10.0)


def rig_without_camera(folder: Path, *, injected: bool) -> Rig:
    """What the verdict looks at; nothing runs."""
    nothing: Any = None
    return Rig(nothing, nothing, folder, settings_of(CASE, "127.0.0.1:1", folder), injected=injected)


@pytest.mark.parametrize(
    ("error", "seconds", "cooler", "says"),
    [
        ("CameraError: it names it", 1.0, "off", ""),
        ("CameraError: something else", 1.0, "off", "stopped"),
        ("CameraError: it names it", 11.0, "off", "too late"),
        ("HANGS", 1.0, "off", "HANGS"),
        ("LEAKED KeyError: names it", 1.0, "off", "LEAKED"),
        ("CameraError: it names it", 1.0, "on, said", "the cooler is on"),
        ("", 1.0, "off", "0 right frames"),
    ],
)
def test_a_broken_promise_is_seen(error: str, seconds: float, cooler: str, says: str, tmp_path: Path) -> None:
    rig = rig_without_camera(tmp_path, injected=True)
    broken = "; ".join(promises_broken(CASE, rig, error, seconds, Judgement(), cooler))
    assert (says in broken) if says else not broken


def test_an_injection_that_never_acted_proves_nothing(tmp_path: Path) -> None:
    rig = rig_without_camera(tmp_path, injected=False)
    assert any("never acted" in why for why in promises_broken(CASE, rig, "names it", 1.0, Judgement(), "off"))


def test_a_cooler_may_stay_on_only_where_the_line_is_dead(tmp_path: Path) -> None:
    rig = rig_without_camera(tmp_path, injected=True)
    dead = dataclasses.replace(CASE, line_dies=True)
    assert not promises_broken(dead, rig, "names it", 1.0, Judgement(), "on, said")
    assert promises_broken(dead, rig, "names it", 1.0, Judgement(), "on, UNSAID")
