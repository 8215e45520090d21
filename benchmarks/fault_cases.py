"""Every fault of a camera, its server, its line, its cooler and its thermometer that an acquisition must survive."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from alpaca_proxy import LineFault  # the importer has the folder of the tests on its path

from benchmarks import fault_people
from benchmarks.fault_rig import SPEC, Case, Injection, Rig
from benchmarks.meddling_proxy import Cache, Change, emptied, http, instead, value
from hardware.simulator.faults import Fault

How = tuple[str, Injection]

MID = 4  # frames that are there when a fault comes in mid-run
FOR_EVER = 10**9
NO_ANSWER = "no whole answer within"
GONE = "connection was lost|connection refused|no whole answer"
GET_S = 5.0  # deadline of a question, fixed in the driver
# a question that hangs is followed by an abort, reconnects, a warm-up that reconnects three times, and the switch
HUNG_S = 25 * GET_S
TRIES_S = 40.0  # four tries of a frame with a read-out that takes its full time, each with a reconnect and a new wait
DEAD_S = 30.0
BIG = 3 << 20  # bytes: no answer may be longer than 1 MiB, an image of this size no longer than 1.2 MiB


def sim(name: str, **how: Any) -> How:
    """A fault of the simulator."""
    fault = Fault(name, **how)
    told = ", ".join(f"{key} {value}" for key, value in how.items())
    return f"simulator: {name}{f' ({told})' if told else ''}", lambda rig: rig.arm(fault)


def line(match: str, kind: Any, times: int = 1, seconds: float = 0.05) -> How:
    """A fault of the line, in the proxy."""

    def inject(rig: Rig) -> None:
        assert rig.proxy is not None
        rig.proxy.faults.append(LineFault(match, kind, times, seconds))

    often = "" if times == FOR_EVER else f" x {times}"
    return f"proxy: {kind} {match or 'everything'}{often}", inject


def down(seconds: float) -> How:
    """The line is dead for a while."""

    def inject(rig: Rig) -> None:
        assert rig.proxy is not None
        rig.proxy.faults.append(LineFault("", "drop", FOR_EVER))
        threading.Timer(seconds, rig.proxy.faults.clear).start()

    return f"proxy: drop everything for {seconds:g} s", inject


def changed(told: str, *changes: Change) -> How:
    """Answers that the proxy changes, from now on."""

    def inject(rig: Rig) -> None:
        assert rig.proxy is not None
        rig.proxy.changes.extend(changes)

    return f"proxy: {told}", inject


def read_as(member: str, told: str, new: Any) -> How:
    """A property that reads differently."""
    return changed(f"{member} {told}", value(member, new))


def json_only(rig: Rig) -> None:
    """The server has no ImageBytes."""
    assert rig.proxy is not None
    rig.proxy.json_only = True


def foreign_exposure(times: int) -> How:
    """When an image is ready, another program takes one of its own, with light, before ours is downloaded."""

    def inject(rig: Rig) -> None:
        assert rig.proxy is not None
        left = [times]

        def change(line: str, request: bytes, answer: bytes) -> bytes | None:
            if "GET /api/v1/camera/0/imageready?" not in line or b'"Value": true' not in answer or not left[0]:
                return None
            left[0] -= 1
            model = rig.server.model
            model.start_exposure(model.last_exposure()[0], True)
            end = time.monotonic() + 2.0
            while model.camera_state() != 0 and time.monotonic() < end:
                time.sleep(0.005)
            return answer

        rig.proxy.changes.append(change)

    return f"proxy: an exposure of others at imageready x {times}", inject


def case(name: str, how: How, **more: Any) -> Case:
    """A row; a proxy is there if what injects it needs one."""
    return Case(name, how[0], how[1], proxied=how[0].startswith("proxy"), **more)


def both(name: str, how: How, **more: Any) -> Iterator[Case]:
    """A row for the start, and one for mid-run; at_start : what differs at the start."""
    at_start = more.pop("at_start", {})
    yield case(name, how, **{**more, **at_start})
    yield case(name, how, after=MID, **more)


def all_cases() -> list[Case]:
    """Every row of the table."""
    server = (calls(), lines(), odd_servers(), refused_servers())
    groups = (*server, images(), lost_parts(), exposures(), coolers(), thermometers())
    cases = [case for group in (*groups, fault_people.cases()) for case in group]
    names = {(case.name, case.after) for case in cases}
    assert len(names) == len(cases), "two rows have the same name"
    return cases


def calls() -> Iterator[Case]:
    """Calls that are not answered, or not well."""
    # nothing is there yet that could be taken up again: the first call that fails ends the run
    first, nonsense = {"stops": NO_ANSWER, "limit_s": 30}, "not what the protocol says"
    yield from both("one call hangs", sim("hang", times=1), limit_s=30, at_start=first)
    yield from both("server hangs", sim("hang"), stops=NO_ANSWER, limit_s=HUNG_S, line_dies=True, at_start=first)
    yield from both("connection dropped", sim("drop", times=1))
    yield from both("connection always dropped", sim("drop"), stops=GONE, limit_s=DEAD_S, line_dies=True)
    yield from both("dropped at startexposure", sim("drop", times=1, member="startexposure"))
    for member in ("startexposure", "setccdtemperature", "cooleron"):
        yield case(f"answer lost: {member}", sim("lost_answer", times=1, member=member))
    yield case("answer lost: startexposure", sim("lost_answer", times=1), after=MID)
    yield from both("answers always lost: startexposure", sim("lost_answer"))
    yield case("startexposure hangs", sim("hang", times=1, member="startexposure"), limit_s=TRIES_S, after=MID)
    yield from both("slow answers", sim("slow_call", member="imageready", times=4, value=1.0), limit_s=25)
    yield from both("garbage once", sim("garbage", times=1), at_start={"stops": nonsense})
    yield from both("garbage always", sim("garbage"), stops=nonsense, limit_s=TRIES_S, line_dies=True)
    yield from both("driver error once", sim("driver_error", member="startexposure", times=1))
    yield from both("driver error always", sim("driver_error", member="startexposure"), stops="driver has failed")
    for member in ("imageready", "camerastate"):
        yield case(f"driver error at {member}", sim("driver_error", member=member, times=1), after=MID)


def lines() -> Iterator[Case]:
    """Faults of the line, made by a proxy."""
    yield case("image cut off", line("/imagearray", "cut"), after=MID)
    yield case("image hangs", line("/imagearray", "hang"), after=MID)
    yield case("image drips", line("/imagearray", "drip", seconds=0.001), after=MID)
    yield case("answer drips", line("/imageready", "drip", seconds=0.2), after=MID, limit_s=25)
    yield case("answer cut off", line("/camerastate", "cut"), after=MID)
    yield case("exposure not confirmed", line("/startexposure", "lose"), after=MID)
    yield case("set point not confirmed", line("/setccdtemperature", "lose"))
    yield case("line down for a second", down(1.0), after=MID, camera={"reconnect_timeout_s": 6.0})
    yield case("line down", line("", "drop", FOR_EVER), after=MID, stops=GONE, limit_s=DEAD_S, line_dies=True)


def odd_servers() -> Iterator[Case]:
    """Servers that do things in their own way: the run completes."""
    yield case("JSON only", ("proxy: asks for JSON", json_only))
    yield case("CameraState stays 4", read_as("camerastate", "4 in place of 0", lambda v: v or 4))
    yield case("CameraState always 4", read_as("camerastate", "is 4", lambda v: 4))
    yield case("CameraState always 0", read_as("camerastate", "is 0", lambda v: 0))
    yield case("LastExposureDuration 0", read_as("lastexposureduration", "is 0", lambda v: 0))
    yield case("ImageReady always true", read_as("imageready", "is true", lambda v: True), limit_s=40)
    yield case(
        "LastExposureStartTime stays", read_as("lastexposurestarttime", "stays", lambda v: "2020-01-01T00:00:00")
    )
    yield case("readings as text", read_as("ccdtemperature", "as text", str))
    yield case("set point rounded", read_as("setccdtemperature", "+ 0.1", lambda v: v + 0.1))
    members = ("gain", "offset", "readoutmode", "heatsinktemperature", "coolerpower", "lastexposureduration",
               "lastexposurestarttime", "electronsperadu", "sensortype", "camerastate")  # fmt: skip
    refused = http(b"not implemented", "400 Bad Request", kind="text/plain")
    absent = [instead(f"/{member}", refused) for member in members]
    yield case("nothing but the needed, HTTP 400", changed(f"400 for {len(absent)} members", *absent))
    for member in ("gain", "camerastate", "lastexposureduration"):
        yield case(f"no {member}", sim("not_implemented", member=member))
    yield case("NotImplemented as HTTP 400", sim("not_implemented_400"))
    yield case("true in lower case only", sim("lower_case_switch"))
    for number in (1, 2, 3, 4, 9):
        yield case(f"pixels of element type {number}", sim("wrong_element_type", value=number))
    yield from both("stale ready", sim("stale_ready"), limit_s=40)
    yield case("stale ready, 0.45 s", sim("stale_ready", value=0.45), limit_s=40)


def refused_servers() -> Iterator[Case]:
    """Servers with which nothing can be taken."""
    away = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    redirect = {"stops": "[Rr]edirect|HTTP 302"}
    long = changed("3 MiB for camerastate", instead("/camerastate", http(b" " * BIG)))
    endless = b"HTTP/1.1 200 OK\r\nContent-Type: application/imagebytes\r\nConnection: close\r\n\r\n" + b"x" * BIG
    broken = http(b"oops", "500 Oops")
    yield from both("redirect", changed("302 for imageready", instead("/imageready", away)), **redirect)
    yield case("redirect of the image", changed("302 for imagearray", instead("/imagearray", away)), **redirect)
    yield from both("oversized answer", long, stops="longer than")
    yield case("oversized image", changed("3 MiB for imagearray", instead("/imagearray", endless)), stops="longer than")
    yield case("caching proxy", changed("first image always", Cache()), stops="duplicate image")
    yield case("HTTP 500", changed("500 for imagearray", instead("/imagearray", broken)), stops="HTTP 500")
    never = read_as("imageready", "is false", lambda v: False)
    yield case("ImageReady never true", never, stops="no image|gone", limit_s=TRIES_S)
    yield case("CoolerOn reads false", read_as("cooleron", "is false", lambda v: False), stops="reads back off")


def images() -> Iterator[Case]:
    """Downloads that give something else than the image."""
    faults: Iterable[tuple[str, str, Mapping[str, Any]]] = (
        ("slow_image", NO_ANSWER, {}),
        ("truncated_image", "connection was lost|answer ended", {}),
        ("truncated_image", "truncated", {"value": 1}),
        ("swapped_dimensions", "width and height are swapped", {}),
        ("wrong_dimensions", "127 × 96 pixels, not 128 × 96", {}),
        ("wrong_element_type", "element type", {}),
        ("error_frame", "the image was lost", {}),
    )
    for name, says, how in faults:
        told = name.replace("_", " ") + (" (length fits)" if how else "")
        yield case(f"{told}, once", sim(name, times=1, **how))
        yield from both(f"{told}, always", sim(name, **how), stops=says, limit_s=TRIES_S)


def lost_parts() -> Iterator[Case]:
    """Images of which a part was never filled in. The first frame may have a tenth of dead rows; later ones may not."""
    for what, by_columns in (("rows", False), ("columns", True)):
        for fraction, after in ((0.25, 0), (0.25, MID), (0.05, MID)):
            change = emptied(SPEC.cols, SPEC.rows, fraction, by_columns=by_columns)
            told = f"{fraction:.0%} of the {what} empty"
            yield case(told, changed(told, change), after=after, stops="part of the image is missing")


def exposures() -> Iterator[Case]:
    """Exposures that go wrong, and frames that are none."""
    faults: Iterable[tuple[str, str, Mapping[str, Any]]] = (
        ("camera_error", "error state|exposure has failed", {}),
        ("never_ready", "no image", {}),
        ("duplicate_image", "duplicate image", {}),
        ("constant_image", "constant image", {}),
        ("saturated_image", "constant image|saturated", {}),
        ("light_leak", "light leak|level", {}),
        ("light_leak", "light leak|level", {"value": 2.0}),
    )
    for name, says, how in faults:
        told = name.replace("_", " ") + (" (faint)" if how else "")
        yield case(f"{told}, once", sim(name, times=1, **how), after=MID)
        yield from both(f"{told}, always", sim(name, **how), stops=says, limit_s=TRIES_S)
    yield from both("restart in an exposure", sim("restart"), limit_s=TRIES_S)
    always = "not connected|used up|gone|no good frame"
    yield case("restart in every exposure", sim("restart", times=FOR_EVER), after=MID, stops=always, limit_s=90)
    yield from both("exposure of others at download", foreign_exposure(1))


def coolers() -> Iterator[Case]:
    """Coolers."""
    weak, skip = "cannot reach|not stable", {"on_failure": "skip_temperature"}
    wrong_way = "wrong way round|does not cool"
    # one that is at its set point already cannot be told from one that ignores it, until the next one
    ignored = "does not follow|does not cool|to the last digit"
    yield from both("cooler never arrives", sim("cooler_never_arrives"), stops=weak)
    yield case(
        "the same, skip_temperature", sim("cooler_never_arrives"), stops="not one frame.*cannot reach", cooling=skip
    )
    yield from both("inverted switch", sim("inverted_switch"), stops=wrong_way)
    yield from both("set point ignored", sim("ignored_set_point"), stops=ignored)


def thermometers() -> Iterator[Case]:
    """Thermometers."""
    yield from both("frozen reading", sim("frozen_reading"), stops="to the last digit")
    for reading in (-273.15, 999.0, float("nan"), "null"):
        one, always = (sim("implausible_reading", value=reading, times=times) for times in (1, None))
        yield case(f"reading {reading}, once", one, after=MID)
        yield from both(f"reading {reading}, always", always, stops="cannot be believed")


QUICK = (
    ("5% of the columns empty", MID),
    ("connection dropped", MID),
    ("answer lost: startexposure", MID),
    ("JSON only", 0),
    ("truncated image (length fits), always", MID),
    ("duplicate image, always", MID),
    ("light leak, always", MID),
    ("stale ready", MID),
    ("restart in an exposure", MID),
    ("cooler never arrives", MID),
    ("inverted switch", 0),
    ("reading null, once", MID),
    ("gain changed by somebody", MID),
    ("second run, same folder", MID),
    ("server stops", MID),
)
"""Rows, by name and `after`, that stand for all of them and take little time."""
