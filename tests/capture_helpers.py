"""What tests of acquisition share: a simulated camera with its clock and cooler, settings, and a look at the frames."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from fake_clock import FakeClock

import run_pipeline
from darkpipe.files.layout import RawDir
from hardware.camera import Exposure
from hardware.clock import Clock
from hardware.dark_capture import DarkCapture
from hardware.settings import AcquisitionSettings
from hardware.simulator.camera import SimulatedCamera
from hardware.simulator.cooler import Cooler
from hardware.simulator.sensor import Sensor, SensorSpec

PROJECT = Path(run_pipeline.__file__).parent

# rows and columns differ so that a transposed frame cannot pass
TINY = SensorSpec(rows=40, cols=48, seed=5, readout_s=0.1)
STAMP = "20250729_220000"  # of a session that begins with FakeClock


class WatchedCamera(SimulatedCamera):
    """The simulated camera, with a hook, and a record of what was done to it.

    on_expose : called before each exposure with its number (from 1, aborted ones too). writes : to the cooler.
    """

    on_expose: Callable[[int], None] | None = None

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.exposures: list[float] = []
        self.writes: list[tuple[str, float | bool]] = []
        self.aborts = self.reconnects = 0
        self.closed = False

    def expose_dark(self, seconds: float, *, at_middle: Callable[[], None] | None = None) -> Exposure:
        self.exposures.append(seconds)
        if self.on_expose is not None:
            self.on_expose(len(self.exposures))
        return super().expose_dark(seconds, at_middle=at_middle)

    def write_set_point(self, celsius: float) -> None:
        self.writes.append(("set point", celsius))
        super().write_set_point(celsius)

    def write_cooler_on(self, on: bool) -> None:
        self.writes.append(("on", on))
        super().write_cooler_on(on)

    def abort(self) -> None:
        self.aborts += 1
        super().abort()

    def reconnect(self) -> None:
        self.reconnects += 1
        super().reconnect()

    def close(self) -> None:
        self.closed = True
        super().close()


class Bench:
    """A camera on a bench. spec : of its sensor; cooler, camera : further arguments of theirs."""

    def __init__(
        self,
        spec: SensorSpec = TINY,
        *,
        clock: Clock | None = None,
        cooler: dict[str, Any] | None = None,
        **camera: Any,
    ) -> None:
        self.clock: Any = clock or FakeClock()
        self.cooler = Cooler(self.clock, **(cooler or {}))
        self.camera = WatchedCamera(Sensor(spec), self.cooler, self.clock, **camera)

    def capture(self, settings: AcquisitionSettings) -> DarkCapture:
        return DarkCapture(self.camera, settings)

    def at_exposure(self, number: int, act: Callable[[], None], after: Callable[[], None] | None = None) -> None:
        """Do something when this exposure begins, and something else when the next one does."""

        def hook(count: int) -> None:
            if count == number:
                act()
            elif count == number + 1 and after is not None:
                after()

        self.camera.on_expose = hook

    def interrupt_in(self, number: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        """Raise an interrupt while this exposure runs."""

        def strike() -> None:
            def once(now_s: float) -> None:
                self.clock.on_sleep = None
                raise error

            self.clock.on_sleep = once

        self.at_exposure(number, strike)


def settings_for(folder: Path, *, cooling: dict[str, Any] | None = None, **capture: Any) -> AcquisitionSettings:
    """A small campaign: 3 frames of bias, 1 s and 2 s at -10 °C; `cooling=None`: without a cooler."""
    dark: dict[str, Any] = {
        "num_darks": 3,
        "science_exposure_time": 2.0,
        "exposure_factors": [0.5, 1.0],
        "output_dir": folder,
    }
    camera: dict[str, Any] = {}
    if cooling is not None:
        usual = {"enable_cooling": True, "stable_seconds": 60.0}
        camera["cooling"] = {**usual, **cooling}
    return AcquisitionSettings.model_validate({"dark_capture": {**dark, **capture}, "camera": camera})


def cooled(
    folder: Path, *temperatures_c: float, cooling: dict[str, Any] | None = None, **capture: Any
) -> AcquisitionSettings:
    """The same at other temperatures."""
    return settings_for(
        folder, cooling={"temperatures_c": list(temperatures_c or (-10.0,)), **(cooling or {})}, **capture
    )


# frames
def frames(folder: Path) -> list[Path]:
    """The frames of the library, those that were rejected left out."""
    return sorted(folder.rglob("*.fits"))


def drafts(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.draft"))


def header(path: Path) -> fits.Header:
    return fits.getheader(path)


def pixels(path: Path) -> np.ndarray:
    """Of a frame whose checksums agree, by astropy."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(path, checksum=True, memmap=False) as hdus:
            assert {"CHECKSUM", "DATASUM"} <= set(hdus[0].header)
            hdus.verify("exception")
            return np.array(hdus[0].data)


def digests(folder: Path) -> dict[str, str]:
    """A digest of the pixels of each frame, by its name; every frame is verified on the way."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(pixels(path).tobytes()).hexdigest()
        for path in frames(folder)
    }


def taken_order(folder: Path) -> list[tuple[float, str, float]]:
    """(set point, type, exposure) of the frames in the order of their start."""
    cards = sorted((header(path) for path in frames(folder)), key=lambda h: h["DATE-OBS"])
    return [(h.get("SET-TEMP", np.nan), h["IMAGETYP"], h["EXPTIME"]) for h in cards]


# the journal
def journal(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of the frame journal."""
    file = RawDir(folder).journal
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines]


def events(folder: Path, event: str) -> Counter[str]:
    """How often an event happened to each slot."""
    return Counter(f"{line['stamp']} {line[event]}" for line in journal(folder) if event in line)


def reasons(folder: Path) -> Iterator[str]:
    """Why frames were rejected."""
    for line in journal(folder):
        if "rejected" in line:
            yield from line["reasons"]


# processes
def take_numbered(folder: str) -> int:
    """A whole run in process, for one that is killed. The frame numbers are those of the slots in the plan, so that the
    pixels are the same however often it began anew; the clock begins anew as well, so that the names are."""
    bench = Bench()
    with bench.capture(cooled(Path(folder), -10.0, -5.0, num_darks=15)) as capture:
        numbers = {slot: number for number, slot in enumerate(capture.work.plan.slots)}
        for _, slots in capture.work.batches():
            for slot in slots:
                bench.camera.next_frame_number = numbers[slot]
                capture.take_slot(slot)
        capture.finish()
    return 0


LAUNCHER = """
import importlib, json, os, sys
module, name, log = sys.argv[1:]
call = getattr(importlib.import_module(module), name)
for preload in ("hardware.dark_capture", "master_controller"):
    importlib.import_module(preload)
sys.modules["master_controller"].load_steps()
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        told = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(told, 1)
        os.dup2(told, 2)
        code = call(*json.loads(line))
        sys.stderr.flush()
        os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Launcher:
    """Runs a function again and again, each time in a fresh process that can be killed, without the second that the
    imports take: a process that has them is forked.

    module, name : of the function, which returns an exit code. said : what all of them printed.
    """

    def __init__(self, module: str, name: str, log: Path) -> None:
        self._log = log
        line = [sys.executable, "-c", LAUNCHER, module, name, str(log)]
        path = os.pathsep.join([str(PROJECT), str(PROJECT / "tests")])
        self._process = subprocess.Popen(
            line, env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready"

    @property
    def said(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def start(self, *arguments: Any) -> int:
        """Start it; returns the process id. `end` is to be called before the next."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        return int(self._answer())

    def end(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        return int(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Launcher:
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
