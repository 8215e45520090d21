"""One small campaign against a camera that misbehaves on request, and what became of it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.campaign_judge import Judgement, RememberingSensor, judge
from benchmarks.meddling_proxy import MeddlingProxy
from darkpipe.errors import PipelineError
from hardware.dark_capture import DarkCapture
from hardware.settings import AcquisitionSettings
from hardware.simulator.cooler import Cooler
from hardware.simulator.faults import FAULTS, LASTING, Fault
from hardware.simulator.sensor import SensorSpec
from hardware.simulator.server import SimulatorServer

TIME_SCALE = 500.0
TEMPERATURES_C, EXPOSURES_S, FRAMES, BIAS_S = (0.0, -5.0), (0.001, 20.0, 60.0), 3, 0.001
# 96 rows: below 64 a frame has too few blocks to show a gradient; a read-out of 30 ms of real time can be seen
SPEC = SensorSpec(rows=96, cols=128, seed=3, readout_s=10.0)
TOLERANCE_C = 0.5
CAMERA: dict[str, Any] = {"readout_timeout_s": 2.0, "reconnect_timeout_s": 2.0}
COOLING: dict[str, Any] = {
    "temperature_tolerance": TOLERANCE_C,
    "stable_seconds": 30.0,
    "cooling_timeout": 1500.0,
    "warmup_c_per_min": 30.0,
}
CAPTURE: dict[str, Any] = {
    "num_darks": FRAMES,
    "science_exposure_time": 20.0,
    "exposure_factors": [1.0, 3.0],
    "min_exposure": BIAS_S,
    "bias_pause_s": 1.0,
    "temperatures_c": list(TEMPERATURES_C),
}
STILL_ON = ("may still be on", "cannot be switched off")
GRACE_S = 20.0  # after the deadline, until a run is called hung

log = logging.getLogger("darkpipe.capture")


@dataclass
class Rig:
    """What a case may meddle with. server : the simulator; proxy : between it and the driver, if the case wants one.

    problems : what went wrong beside the outcome. undo : called at the end.
    injected : the moment came at which the fault was to be switched on.
    """

    server: SimulatorServer
    sensor: RememberingSensor
    folder: Path
    settings: AcquisitionSettings
    proxy: MeddlingProxy | None = None
    armed: list[Fault] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    undo: list[Callable[[], None]] = field(default_factory=list)
    injected: bool = False

    def arm(self, fault: Fault) -> None:
        """Switch a fault of the simulator on."""
        fault = dataclasses.replace(fault)
        self.armed.append(fault)
        self.server.faults.arm(fault)

    def restart_server(self, down_s: float, sensor: RememberingSensor | None = None) -> None:
        """The server loses its power, and comes back at the same address with a warm sensor, perhaps another one."""
        old = self.server
        number, port = old.model.next_frame_number, old.port
        old.stop()
        time.sleep(down_s)
        self.server = serve(sensor or self.sensor, port=port)
        self.server.model.next_frame_number = number

    @property
    def library(self) -> Path:
        return self.settings.dark_capture.output_dir

    @property
    def idle_injections(self) -> list[str]:
        """Faults that were switched on and never acted."""
        idle = [f.name for f in self.armed if FAULTS[f.name][0] != LASTING and f.seen < f.first]
        if self.proxy is not None and not self.proxy.meddled:
            idle.append("the proxy")
        if not self.injected:
            idle.append("the injection")
        return idle


Injection = Callable[[Rig], None]
Runner = Callable[[Rig], str]


@dataclass(frozen=True)
class Case:
    """A fault.

    how : what injects it. inject : does so, after so many frames (0: before the camera is connected).
    stops : pattern of the error that names it; '' if the run must complete. limit_s : its deadline, real seconds.
    line_dies : the server never answers again, so that the cooler cannot be switched off; that must be said.
    proxied : the driver talks to a proxy. camera, cooling, capture : settings that differ. runner : in place of
    `capture`; returns what ended it, '' for completion.
    """

    name: str
    how: str
    inject: Injection
    after: int = 0
    stops: str = ""
    limit_s: float = 20.0
    line_dies: bool = False
    proxied: bool = False
    camera: Mapping[str, Any] = field(default_factory=dict)
    cooling: Mapping[str, Any] = field(default_factory=dict)
    capture: Mapping[str, Any] = field(default_factory=dict)
    runner: Runner | None = None

    @property
    def when(self) -> str:
        return f"frame {self.after + 1}" if self.after else "start"


@dataclass(frozen=True)
class Row:
    """What became of a case. broken : how it breaks the promise; nothing if it does not."""

    case: str
    when: str
    how: str
    outcome: str
    seconds: float
    limit_s: float
    judgement: Judgement
    cooler: str
    broken: tuple[str, ...]


def serve(sensor: RememberingSensor, port: int = 0) -> SimulatorServer:
    """The simulator around a sensor that remembers."""
    server = SimulatorServer(sensor.spec, time_scale=TIME_SCALE, cooler=Cooler, port=port)
    server.sensor = server.model.sensor = sensor
    return server


def run_case(case: Case, folder: Path) -> Row:
    """Run one campaign with one fault, in `folder`, and judge it."""
    sensor = RememberingSensor(SPEC)
    with contextlib.ExitStack() as stack:
        server = serve(sensor)
        proxy = stack.enter_context(MeddlingProxy(server.address)) if case.proxied else None
        address = proxy.address if proxy else server.address
        rig = Rig(server, sensor, folder, settings_of(case, address, folder / "darks"), proxy)
        stack.callback(lambda: rig.server.stop())
        stack.callback(lambda: [undo() for undo in rig.undo] and None)
        stack.enter_context(watched(rig, case))
        if not case.after:
            inject(rig, case)
        ended: list[str] = []
        runner = case.runner or capture
        thread = threading.Thread(target=lambda: ended.append(runner(rig)), daemon=True)
        begun_s = time.monotonic()
        thread.start()
        thread.join(case.limit_s + GRACE_S)
        seconds = time.monotonic() - begun_s
        error = ended[0] if ended else "HANGS"
        found = judge(rig.library, sensor, bias_s=BIAS_S, tolerance_c=TOLERANCE_C)
        cooler = cooler_state(rig, error)
        broken = tuple(promises_broken(case, rig, error, seconds, found, cooler))
    return Row(case.name, case.when, case.how, error or "completed", seconds, case.limit_s, found, cooler, broken)


def inject(rig: Rig, case: Case) -> None:
    """Now. A runner of its own says itself when."""
    rig.injected = case.runner is None
    case.inject(rig)


def settings_of(case: Case, address: str, library: Path) -> AcquisitionSettings:
    """The settings of a case."""
    return AcquisitionSettings.model_validate(
        {
            "camera": {"address": address, **CAMERA, **case.camera, "cooling": {**COOLING, **case.cooling}},
            "dark_capture": {"output_dir": library, **CAPTURE, **case.capture},
        }
    )


def capture(rig: Rig) -> str:
    """Acquire; '' if everything is there, else the error."""
    try:
        with DarkCapture.open(rig.settings) as session:
            result = session.capture_darks()
    except PipelineError as error:
        return f"{type(error).__name__}: {error}"
    except BaseException as error:
        return f"LEAKED {type(error).__name__}: {error}"
    missing = result.statistics["frames"] - result.statistics["there"]
    return f"{missing} frames are missing: {'; '.join(result.skipped_c.values())}" if missing else ""


@contextlib.contextmanager
def watched(rig: Rig, case: Case) -> Any:
    """Collects the log, and injects the fault after the frame that the case says."""

    class Watch(logging.Handler):
        frames = 0

        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                rig.lines.append(record.getMessage())
            if getattr(record, "frame", False):
                self.frames += 1
                if self.frames == case.after:
                    inject(rig, case)

    watch, before = Watch(), log.level
    log.setLevel(logging.INFO)
    log.addHandler(watch)
    propagate, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.removeHandler(watch)
        log.setLevel(before)
        log.propagate = propagate


def cooler_state(rig: Rig, error: str) -> str:
    """What the cooler does in truth; where it still cools, whether that was said."""
    cooler = rig.server.cooler
    if cooler.on == cooler.inverted_switch:
        return "off"
    if cooler.power_percent() < 1.0:
        return "no power"
    said = any(words in line for line in (*rig.lines, error) for words in STILL_ON)
    return "on, said" if said else "on, UNSAID"


def promises_broken(case: Case, rig: Rig, error: str, seconds: float, found: Judgement, cooler: str) -> list[str]:
    """How a row breaks the promise, in words."""
    broken = list(rig.problems)
    if seconds > case.limit_s:
        broken.append("too late")
    if error == "HANGS" or error.startswith("LEAKED"):
        broken.append(error)
    elif error and not (case.stops and re.search(case.stops, error)):
        broken.append(f"stopped, but should {f'say {case.stops!r}' if case.stops else 'complete'}")
    if not error and not found.whole(TEMPERATURES_C, EXPOSURES_S, rig.settings.dark_capture.num_darks):
        broken.append(f"said to be complete, but holds {found.right.total()} right frames")
    broken += found.told
    broken += [f"{found.foreign} drafts are left"] if found.foreign else []
    allowed = ("off", "no power", "on, said") if case.line_dies else ("off", "no power")
    if cooler not in allowed:
        broken.append(f"the cooler is {cooler}")
    broken += [f"{name} never acted" for name in rig.idle_injections]
    return broken


def private_cache(folder: Path) -> None:
    """Locks of cameras go to a folder of our own: the ports are used by nobody else."""
    os.environ["XDG_CACHE_HOME"] = str(folder)
