"""Frames from a camera by the command line, over real HTTP: the simulator answers, all else is the real thing."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from capture_helpers import TINY, digests, drafts, events, frames, header, journal, pixels, reasons
from guide_settings import CAPTURE_GUIDE, COOLING_GUIDE
from helpers import command, environment

from darkpipe.files.layout import OutputDir, RawDir
from hardware.simulator.protocol import IDLE
from hardware.simulator.sensor import SensorSpec
from hardware.simulator.server import SimulatorServer
from hardware.temperature_log import read_temperature_log
from run_pipeline import main

GUIDE = CAPTURE_GUIDE + COOLING_GUIDE
"""Settings as people write them, but for the address."""

FAST = 1000.0  # of the camera's clock
PATIENT = {"cooling_timeout": 1e6}  # with such a clock, a busy machine is slow


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[SimulatorServer]:
    with SimulatorServer(TINY, time_scale=FAST) as running:
        yield running


def small(**capture: Any) -> dict[str, Any]:
    """Two frames of bias, 1 s and 2 s at -10 °C."""
    dark = {"num_darks": 2, "science_exposure_time": 2.0, "exposure_factors": [0.5, 1.0], **capture}
    return {"dark_capture": dark, "camera": {"cooling": {"enable_cooling": True, **PATIENT}}}


def acquire(server: SimulatorServer, settings: dict[str, Any] | str, *more: str, mode: str = "acquire") -> int:
    """Run the command line in this process, in the working directory."""
    return main(arguments(server, settings, *more, mode=mode))


def arguments(server: SimulatorServer, settings: dict[str, Any] | str, *more: str, mode: str = "acquire") -> list[str]:
    text = settings if isinstance(settings, str) else yaml.safe_dump(settings)
    Path("settings.yaml").write_text(text)
    return ["--mode", mode, "--config", "settings.yaml", "--camera_address", server.address, *more]


def start(server: SimulatorServer, settings: dict[str, Any], *more: str) -> subprocess.Popen[str]:
    line = command(*arguments(server, settings, *more))
    return subprocess.Popen(line, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(holds: Callable[[], object], process: subprocess.Popen[str], longest_s: float = 60.0) -> None:
    end_s = time.monotonic() + longest_s
    while not holds():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end_s, "it never came to that"
        time.sleep(0.01)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# the guide
@pytest.mark.slow
def test_settings_as_people_write_them(tmp_path: Path) -> None:
    """But for the size of the sensor, which is that of the camera."""
    fitting = GUIDE.replace("36.0 ", f"{48 * 0.00376:.4f} ").replace("24.0 ", f"{40 * 0.00376:.4f} ")
    with SimulatorServer(TINY, time_scale=300.0) as server:
        check_guide(server, fitting, tmp_path / "darks")
        before = contents(tmp_path / "darks")
        assert acquire(server, fitting) == 0
    assert acquire(server, fitting) == 0  # nobody has to answer: everything is there
    assert contents(tmp_path / "darks") == before


def check_guide(server: SimulatorServer, settings: str, folder: Path) -> None:
    assert acquire(server, settings) == 0
    found = Counter((path.parent.name, path.name.split("_")[0], path.name.split("_")[-1]) for path in frames(folder))
    exposures = {"0.001": "bias", "0.500": "dark", "1.000": "dark", "2.000": "dark", "4.000": "dark"}
    assert found == {
        (f"exp_{exposure}s", kind, f"{number:03d}.fits"): 1
        for exposure, kind in exposures.items()
        for number in range(1, 21)
    }
    stamps = {"_".join(path.name.split("_")[1:3]) for path in frames(folder)}
    assert len(stamps) == 1
    assert {header(path)["SET-TEMP"] for path in frames(folder)} == {-10.0}
    assert len(set(digests(folder).values())) == 100
    assert server.model.light_frames == 0
    assert not server.cooler.on
    check_log_and_picture(folder)


def check_log_and_picture(folder: Path) -> None:
    (log,) = folder.glob("temperature_*.ecsv")
    table = read_temperature_log(log)
    assert sum(event == "dark 4 s end" for event in table["event"]) == 20
    assert np.ma.min(table["temperature_c"]) < -9.0
    (out,) = {path.parent for path in folder.parent.rglob("pipeline_*.log")}
    picture = OutputDir(out.parent).temperature_picture(log)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "bias_" in next(iter(out.glob("dark_capture_*.log"))).read_text()


def test_a_sensor_of_another_size_is_refused(server: SimulatorServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert acquire(server, GUIDE) == 1
    said = capsys.readouterr().err
    assert "36" in said
    assert "0.18" in said
    assert not Path("darks").exists()
    assert not server.cooler.on


# flags
def test_bias_only(server: SimulatorServer) -> None:
    assert acquire(server, small(), "--bias-only") == 0
    assert [path.parent.name for path in frames(Path("darks"))] == ["exp_0.001s"] * 2


def test_science_only_with_its_numbers(server: SimulatorServer) -> None:
    settings = small(science_exposure_time=1.0, exposure_factors=[0.5, 1.0, 2.0, 4.0])
    line = ("--science-only", "--num-darks", "30", "--science-exposure-time", "2.0")
    assert acquire(server, settings, *line) == 0
    assert [path.parent.name for path in frames(Path("darks"))] == ["exp_2.000s"] * 30
    assert {header(path)["EXPTIME"] for path in frames(Path("darks"))} == {2.0}


def test_another_session_by_its_flag(server: SimulatorServer) -> None:
    assert acquire(server, small(), "--bias-only") == 0
    assert acquire(server, small(), "--bias-only", "--session", "winter") == 0
    assert Counter(header(path)["SESSION"] == "winter" for path in frames(Path("darks"))) == {True: 2, False: 2}


def test_a_dry_run_tells_the_plan_and_writes_nothing(
    server: SimulatorServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = arguments(server, small(), "--dry_run")
    before = set(contents(tmp_path))
    server.cooler.set_point_c = 3.5
    assert main(line) == 0
    said = "".join(capsys.readouterr())
    assert "6 frames to take of 6, " in said
    assert "kB" in said
    assert "about " in said
    assert "cooling and warm-up" in said
    assert "0/2" in said
    assert "flat darks are left out" in said
    assert contents(tmp_path).keys() == before
    assert not (tmp_path / "darks").exists()
    assert (server.cooler.on, server.cooler.set_point_c, server.model.next_frame_number) == (False, 3.5, 0)


def test_a_dry_run_of_a_part(server: SimulatorServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert acquire(server, small(), "--bias-only") == 0
    before = contents(Path("darks"))
    capsys.readouterr()
    assert acquire(server, small(), "--dry_run") == 0
    said = "".join(capsys.readouterr())
    assert "2/2" in said
    assert "4 frames to take of 6" in said
    assert contents(Path("darks")) == before


# faults on the way
@pytest.mark.parametrize(
    ("fault", "how", "begun"),
    [
        ("drop", {"member": "camerastate", "first": 5, "times": 3}, 7),
        # on a slow machine the twelfth reading is one of those beside an exposure, whose frame is taken again
        ("drop", {"member": "ccdtemperature", "first": 12, "times": 3}, (6, 7)),
        ("lost_answer", {"first": 3, "times": 1}, 6),
        ("truncated_image", {"first": 2, "times": 1}, 6),
        ("error_frame", {"first": 4, "times": 1}, 7),
        ("camera_error", {"first": 3, "times": 1}, 7),
        ("restart", {"first": 4, "times": 1}, 7),
        ("light_leak", {"first": 5, "times": 1, "value": 20_000.0}, 7),
        ("duplicate_image", {"first": 5, "times": 1}, 7),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_fault_costs_one_retake_at_most(
    server: SimulatorServer, fault: str, how: dict[str, Any], begun: int | tuple[int, ...]
) -> None:
    server.faults.set(fault, **how)
    assert acquire(server, small()) == 0
    folder = Path("darks")
    assert len(set(digests(folder).values())) == 6
    assert set(events(folder, "taken").values()) == {1}
    assert server.faults._armed[fault].seen >= how["first"]
    expected = begun if isinstance(begun, tuple) else (begun,)
    assert sum(events(folder, "begin").values()) in expected, list(reasons(folder))
    for path in frames(folder):
        assert (header(path)["SET-TEMP"], header(path)["TEMPGATE"]) == (-10.0, True)
        assert header(path)["CCD-TEMP"] == pytest.approx(-10.0, abs=1.0)
    assert not server.cooler.on


def test_a_cooler_that_never_arrives_ends_the_run(server: SimulatorServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.faults.set("cooler_never_arrives")
    settings = small()
    settings["camera"]["cooling"]["cooling_timeout"] = 2000.0
    assert acquire(server, settings) == 1
    assert "cannot reach -10.0 °C" in capsys.readouterr().err
    assert frames(Path("darks")) == []
    assert not server.cooler.on


# with the rest of the pipeline
CAMPAIGN: dict[str, Any] = {
    **small(num_darks=3, science_exposure_time=60.0, exposure_factors=[0.5, 1.0, 2.0], max_exposure=120.0),
    "camera": {"cooling": {"temperatures_c": [0.0, -5.0, -10.0], **PATIENT}},
    "evaluate_model": {"pictures": False},
}


@pytest.mark.slow
def test_full_takes_the_frames_and_models_them(tmp_path: Path) -> None:
    with SimulatorServer(SensorSpec(rows=32, cols=40, seed=3, readout_s=0.1), time_scale=FAST) as server:
        assert acquire(server, CAMPAIGN, "--output_dir", "out", mode="full") == 0
        assert len(frames(tmp_path / "darks")) == 36
        out = OutputDir(tmp_path / "out")
        assert out.model.description.is_file()
        assert out.evaluation_table.is_file()
        assert len(list((tmp_path / "out" / "synthetic").glob("*.fits"))) == 9
        before = contents(out.model.path)
    assert acquire(server, CAMPAIGN, "--output_dir", "out", mode="full") == 0
    assert contents(out.model.path) == before


def test_full_with_frames_of_before_takes_both(server: SimulatorServer, tmp_path: Path) -> None:
    assert acquire(server, small(output_dir="old")) == 0
    line = ("--basepath", "old", "--output_dir", "out", "--until_step", "1")
    assert acquire(server, small(num_darks=3), *line, mode="full") == 0
    assert len(frames(tmp_path / "darks")) == 9
    index = OutputDir(tmp_path / "out").index.read_text()
    assert sum(f"{folder}/exp_" in index for folder in ("old", "darks")) == 2
    assert index.count(".fits") == 6 + 9


# signals, and others
LONG = small(science_exposure_time=3600.0, exposure_factors=[1.0], max_exposure=3600.0)


def exposing_long(server: SimulatorServer) -> bool:
    shot = server.model._shot
    return shot is not None and shot.duration_s > 1000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_mid_exposure(server: SimulatorServer, number: signal.Signals) -> None:
    with start(server, LONG) as process:
        wait_until(lambda: exposing_long(server), process)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert server.model.camera_state() == IDLE
    assert server.model._shot is None  # it was aborted, not waited for
    assert not server.cooler.on
    assert server.cooler.set_point_c > 5.0  # it was warmed up
    assert not server.model.connected
    there = digests(Path("darks"))
    assert len(there) == 1
    assert drafts(Path("darks")) == []
    assert list(Path().rglob("temperature_*.png"))
    assert acquire(server, {**LONG, "dark_capture": {**LONG["dark_capture"], "max_exposure": 10.0}}) == 0
    assert there.items() <= digests(Path("darks")).items()


def test_a_second_signal_switches_the_cooler_off_at_once(tmp_path: Path) -> None:
    with SimulatorServer(TINY, time_scale=200.0) as server:
        with start(server, LONG) as process:
            wait_until(lambda: exposing_long(server), process)
            process.send_signal(signal.SIGINT)
            wait_until(lambda: server.cooler.set_point_c > -9.0, process)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert "Traceback" not in said
        assert not server.cooler.on
        assert server.cooler.set_point_c < 15.0
        assert not server.model.connected


def test_two_runs_on_one_camera(server: SimulatorServer, capsys: pytest.CaptureFixture[str]) -> None:
    with start(server, LONG) as process:
        wait_until(lambda: exposing_long(server), process)
        number = server.model.next_frame_number
        other = small(output_dir="elsewhere")
        assert acquire(server, other, "--output_dir", "other") == 75
        assert str(process.pid) in capsys.readouterr().err
        assert not Path("elsewhere").exists()
        assert exposing_long(server)
        assert server.model.next_frame_number == number
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert acquire(server, other, "--output_dir", "other") == 0


def test_an_exposure_of_a_run_that_was_killed_is_taken_over(server: SimulatorServer) -> None:
    with start(server, LONG) as process:
        wait_until(lambda: exposing_long(server), process)
        process.kill()
        process.communicate(timeout=60)
    assert exposing_long(server)
    assert "begin" in journal(Path("darks"))[-1]
    assert acquire(server, small(), "--bias-only") == 0
    assert len(frames(Path("darks"))) == 2
    assert RawDir(Path("darks")).journal.is_file()
    assert pixels(frames(Path("darks"))[0]).shape == (TINY.rows, TINY.cols)
