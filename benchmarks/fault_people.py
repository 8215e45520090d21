"""Faults around a camera: other people, other programs, the disk, signals, the power."""

from __future__ import annotations

import collections
import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.campaign_judge import RememberingSensor
from benchmarks.common import REPOSITORY
from benchmarks.fault_rig import Case, Rig, capture, serve, settings_of
from hardware import dark_capture
from hardware.errors import CameraBusyError

MID = 4  # frames that are there when it happens
COMMAND_S = 40.0  # of a run in a process of its own, beside others


def cases() -> Iterator[Case]:
    """Every row."""
    yield from users()
    yield from programs()
    yield Case("server restarts, sensor warm", "simulator stopped, started again", restarted, MID, limit_s=40)
    other = "after the reconnect the camera is"
    yield Case("another camera takes its place", "simulator with another seed", replaced, MID, other, limit_s=40)
    yield Case("server stops", "simulator stopped", stopped, MID, "refused|lost", 45, line_dies=True)
    yield Case("server is not there", "simulator stopped", stopped, 0, "refused", 10, line_dies=True)
    yield Case("room gets warm", "ambient 60 °C", warm_room, MID, "cannot reach|not stable")
    yield Case("full disk", "fsync: ENOSPC", full_disk, MID, "full|No space")
    yield Case("disk too small for the plan", "10 kB are said to be free", small_disk, 0, "needs .* the disk has")
    yield Case("no folder", "a file in its place", no_folder, 0, "Not a directory|exists")


def users() -> Iterator[Case]:
    """Somebody else uses the same camera at the same time."""
    yield Case("set point changed by somebody", "cooler.set_point_c", set_point_changed, MID)
    yield Case("cooler switched off by somebody", "cooler.on", cooler_off, MID)
    yield Case("gain changed by somebody", "model.set_gain", gain_changed, MID)
    yield Case("gain changed, then a drop", "model.set_gain, simulator: drop", gain_changed_and_drop, MID)
    yield Case("restart, then another gain", "model.restart, set_gain", gain_changed_and_restart, MID)
    yield Case("offset changed by somebody", "model.set_offset", offset_changed, MID)
    yield Case("binning changed by somebody", "model.set_binning", binning_changed, MID)
    yield Case("sub-frame set by somebody", "model.set_frame", frame_cut, MID)
    yield Case("read-out mode changed", "model.set_readout_mode", mode_changed, MID)
    yield Case("camera disconnected by somebody", "model.connected", disconnected, MID)
    yield Case("somebody exposes at the start", "model.start_exposure", exposing, 0, "exposing")
    yield Case("somebody exposes in mid-run", "model.start_exposure", exposing, MID, "exposing")


def programs() -> Iterator[Case]:
    """Our own program: a second time, interrupted, killed."""
    yield Case("second run, same camera", "a second open", second_run, MID)
    yield Case("second run, same folder", "another camera", second_folder, MID)
    for told, number, times in (
        ("Ctrl-C", signal.SIGINT, 1),
        ("Ctrl-C twice", signal.SIGINT, 2),
        ("SIGTERM", signal.SIGTERM, 1),
        ("kill -9", signal.SIGKILL, 1),
    ):
        run = interrupted(number, times)
        yield Case(f"{told}, then again", f"{number.name} x {times}", nothing, runner=run, limit_s=2 * COMMAND_S)


def nothing(rig: Rig) -> None:
    """The runner does it."""


def restarted(rig: Rig) -> None:
    """Down for a second, in the background: the driver meets a dead port."""
    threading.Thread(target=rig.restart_server, args=(1.0,), daemon=True).start()


def replaced(rig: Rig) -> None:
    """The same model, another copy of it."""
    rig.restart_server(0.0, RememberingSensor(dataclasses.replace(rig.sensor.spec, seed=4)))


def stopped(rig: Rig) -> None:
    """Gone."""
    rig.server.stop()


def warm_room(rig: Rig) -> None:
    """The cooler cannot hold its set point any more."""
    rig.server.cooler.ambient_c = 60.0


def set_point_changed(rig: Rig) -> None:
    """Still a plausible one."""
    rig.server.cooler.set_point_c = 8.0


def cooler_off(rig: Rig) -> None:
    """Off."""
    rig.server.cooler.on = False


def gain_changed(rig: Rig) -> None:
    """The bias stays, the dark signal is three times as high."""
    rig.server.model.set_gain(200)


def gain_changed_and_drop(rig: Rig) -> None:
    """The reconnect meets another gain than it left."""
    rig.server.model.set_gain(200)
    rig.server.faults.set("drop", member="startexposure", times=1)


def gain_changed_and_restart(rig: Rig) -> None:
    """The camera wakes up with settings of its own."""
    rig.server.model.restart()
    rig.server.model.set_gain(200)
    rig.server.model.set_offset(10)


def offset_changed(rig: Rig) -> None:
    """By one step, 10 ADU: less than pedestals may drift."""
    rig.server.model.set_offset(51)


def binning_changed(rig: Rig) -> None:
    """With a frame that fits."""
    with rig.server.model.lock:
        rig.server.model.set_binning(2)
        rig.server.model.set_frame(num_x=64)
        rig.server.model.set_frame(num_y=48)


def frame_cut(rig: Rig) -> None:
    """Part of the sensor."""
    rig.server.model.set_frame(num_x=100)


def mode_changed(rig: Rig) -> None:
    """The other one."""
    rig.server.model.set_readout_mode(1)


def disconnected(rig: Rig) -> None:
    """Somebody pressed 'disconnect'."""
    rig.server.model.connected = False


def exposing(rig: Rig) -> None:
    """A long exposure, with light."""
    with rig.server.model.lock:
        rig.server.model.connected = True
        rig.server.model.start_exposure(3000.0, True)


def second_run(rig: Rig) -> None:
    """Another run with the same settings while this one goes on."""
    error = capture(rig)
    if not error.startswith(CameraBusyError.__name__):
        rig.problems.append(f"a second run was not refused: {error or 'it completed'}")


def second_folder(rig: Rig) -> None:
    """Another camera is to fill the same folder."""
    with serve(RememberingSensor(rig.sensor.spec)) as server:
        settings = settings_of(Case("", "", nothing), server.address, rig.library)
        error = capture(Rig(server, rig.sensor, rig.folder, settings))
    if not error.startswith(CameraBusyError.__name__):
        rig.problems.append(f"a second run into the folder was not refused: {error or 'it completed'}")


def no_folder(rig: Rig) -> None:
    """A file where the library is to be."""
    rig.library.write_text("")


def small_disk(rig: Rig) -> None:
    """The system says that there is little room."""

    class Little:
        disk_usage = staticmethod(lambda path: collections.namedtuple("Usage", "free")(10_000))

    dark_capture.shutil = Little  # type: ignore[assignment]
    rig.undo.append(lambda: setattr(dark_capture, "shutil", shutil))


def full_disk(rig: Rig) -> None:
    """From now on nothing comes to rest on the disk."""
    real = os.fsync

    def refuse(handle: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    os.fsync = refuse
    rig.undo.append(lambda: setattr(os, "fsync", real))


def interrupted(number: signal.Signals, times: int) -> Callable[[Rig], str]:
    """A run of the command line that gets a signal in mid-run, and the same command again, which must complete."""

    def run(rig: Rig) -> str:
        config = rig.folder / "settings.yaml"
        told = {**rig.settings.model_dump(mode="json"), "output_dir": str(rig.folder / "out")}
        config.write_text(yaml.safe_dump(told))
        command = [sys.executable, str(REPOSITORY / "run_pipeline.py"), "--mode", "acquire", "--config", str(config)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                rig.injected = _frames_are_there(rig.library, process)
                for _ in range(times):
                    process.send_signal(number)
                    time.sleep(0.3)
                code = process.wait(COMMAND_S)
            except subprocess.TimeoutExpired:
                return "HANGS"
            finally:
                process.kill()
        if code not in (-number, 128 + number, 128 + signal.SIGINT):
            rig.problems.append(f"the exit code is {code}")
        if number != signal.SIGKILL and rig.server.cooler.on:
            rig.problems.append("the cooler was left on")
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)
        return "" if done.returncode == 0 else f"exit code {done.returncode}: {done.stderr[-500:]}"

    return run


def _frames_are_there(library: Path, process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + COMMAND_S
    while time.monotonic() < end and process.poll() is None:
        if len(list(library.rglob("*.fits"))) >= MID:
            return True
        time.sleep(0.05)
    return False
