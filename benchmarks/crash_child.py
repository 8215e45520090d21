"""The process that the crash harness forks its runs from: everything is imported and compiled, so that a run that is
to be killed needs a fraction of a second to begin. A line of JSON on stdin is one run; its process id and its exit code
are the answers."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import random
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from benchmarks import fault_shim  # noqa: E402
from darkpipe import report  # noqa: E402
from darkpipe.errors import PipelineError  # noqa: E402

BUG = 70
START_UTC = datetime(2025, 7, 29, 22, 0, tzinfo=UTC)
EXPOSURES = [0.5, 1.0]
TEMPERATURES_C = (-10.0, -5.0)


class QuickClock:
    """Implements `hardware.clock.Clock`: sleeping takes no time. jump_seed : the time of day is set at random with each
    sleep, up to ten years away."""

    def __init__(self, jump_seed: int | None = None) -> None:
        self._now_s = self._jump_s = 0.0
        self._random = None if jump_seed is None else random.Random(jump_seed)

    def monotonic_s(self) -> float:
        """Seconds slept."""
        return self._now_s

    def utc(self) -> datetime:
        """The time of day."""
        return START_UTC + timedelta(seconds=self._now_s + self._jump_s)

    def sleep(self, seconds: float) -> None:
        """Moves the clock."""
        self._now_s += max(seconds, 0.0)
        if self._random is not None:
            self._jump_s = self._random.uniform(-fault_shim.LONGEST_JUMP_S, fault_shim.LONGEST_JUMP_S)


def capture_of(
    folder: Path, frames: int, rows: int = 32, cols: int = 40, jump_seed: int | None = None, exposures: int = 2
) -> tuple[Any, Any]:
    """A capture with a camera in process, and the camera. frames : of each setting."""
    from hardware.dark_capture import DarkCapture
    from hardware.settings import AcquisitionSettings
    from hardware.simulator.camera import SimulatedCamera
    from hardware.simulator.cooler import Cooler
    from hardware.simulator.sensor import Sensor, SensorSpec

    factors = [1.0, 2.0, 5.0][:exposures] if exposures > 2 else EXPOSURES
    temperatures = [-10.0, -5.0, 0.0] if exposures > 2 else list(TEMPERATURES_C)
    settings = AcquisitionSettings.model_validate(
        {
            "dark_capture": {
                "num_darks": frames,
                "science_exposure_time": 20.0,
                "exposure_factors": factors,
                "max_exposure": 120.0,
                "output_dir": folder,
            },
            "camera": {"cooling": {"enable_cooling": True, "stable_seconds": 60.0, "temperatures_c": temperatures}},
        }
    )
    clock = QuickClock(jump_seed)
    sensor = Sensor(SensorSpec(rows=rows, cols=cols, seed=5, readout_s=0.1))
    camera = SimulatedCamera(sensor, Cooler(clock), clock)
    return DarkCapture(camera, settings), camera


def take_frames(folder: str, frames: int = 15, jump_seed: int | None = None) -> int:
    """A whole acquisition. The camera's frame numbers are those of the slots, so that the pixels are the same however
    often a run began anew, and whatever was planned before."""
    capture, camera = capture_of(Path(folder), frames, jump_seed=jump_seed)
    with capture:
        settings = sorted({(slot.temperature_c, slot.exposure_s) for slot in capture.work.plan.slots})
        for _, slots in capture.work.batches():
            for slot in slots:
                camera.next_frame_number = 1000 * settings.index((slot.temperature_c, slot.exposure_s)) + slot.number
                capture.take_slot(slot)
        capture.finish()
    return 0


def pipeline(*argv: str) -> int:
    """`run_pipeline.py` in this process."""
    return int(importlib.import_module("run_pipeline").main(list(argv)))


CALLS: dict[str, Callable[..., int]] = {"pipeline": pipeline, "frames": take_frames}


def called(order: dict[str, Any]) -> int:
    """Do what an order says; the exit code. What no user should see is BUG, with its traceback."""
    try:
        return CALLS[order["call"]](*order["arguments"])
    except PipelineError as error:
        print(f"darkpipe: {error}", file=sys.stderr)
        return error.exit_code
    except BaseException:
        traceback.print_exc()
        return BUG


def in_child(order: dict[str, Any]) -> int:
    """The life of a forked process: its output goes to a log, its rights are those that are asked for."""
    told = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(told, 1)
    os.dup2(told, 2)
    if order.get("user") is not None:
        os.setgroups([])
        os.setgid(order["user"])
        os.setuid(order["user"])
    fault_shim.install(order.get("shim") or {})
    code = called(order)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def main() -> int:
    """Serve until stdin ends."""
    drawing = [f"{report.__name__}.{module.name}" for module in pkgutil.iter_modules(report.__path__)]
    for name in ("hardware.dark_capture", "master_controller", *drawing):
        importlib.import_module(name)
    importlib.import_module("master_controller").load_steps()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if order.get("here"):  # to warm it up
            print(called(order), flush=True)
            continue
        child = os.fork()
        if not child:
            code = BUG
            try:
                code = in_child(order)
            finally:
                os._exit(code)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
