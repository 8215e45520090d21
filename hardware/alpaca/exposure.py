"""One exposure of an Alpaca camera: started once, waited for, and known to be this one before its image is taken.

ImageReady alone says little: on some servers it still speaks of the frame before for a while. An image is taken only
after the exposure time has passed on the monotonic clock, while the camera is not busy, and once ImageReady was seen
false since the start. Where it never was (a very short exposure, a slow server), another sign of a new frame is needed:
the camera was seen at work, ImageReady had been false before, or LastExposureStartTime is another one; and then the old
frame is given time to go. A camera that shows none of these is found out once, by a wait in vain; from then on its
image is downloaded before each exposure as well, and one that differs from it is a new one.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hardware.alpaca.calls import AlpacaCalls
from hardware.alpaca.setup import BUSY_STATES, ERROR_STATE
from hardware.camera import CameraInfo
from hardware.clock import Clock
from hardware.errors import (
    CameraBusyError,
    CameraDriverError,
    CameraError,
    CameraProtocolError,
    CameraTimeoutError,
    CameraTransportError,
    CameraValueError,
)

log = logging.getLogger("darkpipe.capture")

FIRST_POLL_S, LONGEST_POLL_S = 0.01, 1.0  # real seconds: a read-out is real work, also in a simulator
WATCH_S = 15.0  # a long exposure is looked at so often
STEP_S = 1.0  # and an abort by another thread noticed after so long
GONE_S = 5.0  # idle for so long after the exposure, without an image: it will not come
ASK_AGAIN_S = 5.0  # so long a server may take to show that an exposure runs, whose start it did not confirm
STALE_S = 0.5  # real seconds after the start in which ImageReady may still speak of the frame before; 0.2 was measured
ROUNDING_S = 0.005

T = TypeVar("T")


@dataclass(frozen=True)
class Timing:
    """When an exposure ran: see `Exposure`."""

    started: datetime
    ended: datetime
    monotonic_s: float


@dataclass(frozen=True)
class _Before:
    """What the camera said before the exposure was started."""

    ready: bool
    start_time: str | None
    duration_s: float | None


@dataclass
class Habits:
    """What the exposures of one camera have shown about it.

    blind : nothing but the image itself tells a new one from the one before. asked_s : the exposure asked for last.
    stuck_s : a LastExposureDuration that stayed the same when another exposure was asked for.
    """

    blind: bool = False
    asked_s: float | None = None
    stuck_s: float | None = None


class OneExposure:
    """An exposure of `seconds`; to be used once: `prepare`, `start`, `wait`, `image`, then `actual_s`.

    readout_s : longest wait for the image after the exposure [real seconds]. fetch : downloads the image that is ready.
    habits : of this camera, learned from here.
    """

    def __init__(
        self,
        calls: AlpacaCalls,
        clock: Clock,
        seconds: float,
        readout_s: float,
        fetch: Callable[[], NDArray[np.uint16]],
        habits: Habits,
    ) -> None:
        self._calls, self._clock, self._seconds, self._readout_s = calls, clock, seconds, readout_s
        self._fetch, self._habits = fetch, habits
        self._old: NDArray[np.uint16] | None = None
        self._new: NDArray[np.uint16] | None = None
        self._before = _Before(False, None, None)
        self._stuck_before: float | None = None
        self._seen_false = self._seen_busy = self._cancelled = False
        self._mark_start()

    def prepare(self) -> None:
        """Note what the camera says beforehand.

        Raises
        ------
        CameraBusyError, CameraDriverError
            if the camera exposes already (and not for us), or is in its error state.
        """
        state = self._calls.state()
        if state in BUSY_STATES:
            what = f"the camera is exposing already (CameraState {state})"
            raise CameraBusyError(what, where=self._calls.where, do="Does another program use it?")
        if state == ERROR_STATE:
            raise _error_state(self._calls.where)
        self._before = _Before(self._calls.boolean("ImageReady"), self._start_time(), self._duration())
        if self._habits.blind and self._before.ready:
            # somebody else's, of another size, or none after all
            with contextlib.suppress(CameraProtocolError, CameraDriverError):
                self._old = self._fetch()

    def start(self) -> None:
        """Begin a dark exposure. It is asked for once; if the answer is lost, the camera is asked what it does.

        Raises
        ------
        CameraTransportError
            if there is no sign that it runs; CameraError of any kind if the camera refuses.
        """
        # a new connection, so that this call cannot fall on one that the server has closed meanwhile
        self._calls.line.close()
        try:
            self._calls.do("StartExposure", self._seconds, False)
            self._mark_start()
        except CameraTransportError as error:
            self._find(error)
        self._stuck_before = self._before.duration_s if self._habits.asked_s != self._seconds else None
        self._habits.asked_s = self._seconds

    def wait(self, at_middle: Callable[[], None] | None) -> Timing:
        """Wait for the exposure, then for its image. See `Camera.expose_dark` for `at_middle`."""
        end_s = self._start_s + self._seconds
        self._look()
        self._sleep_until(self._start_s + self._seconds / 2)
        if at_middle is not None:
            at_middle()
        self._sleep_until(end_s)
        timing = Timing(self._started, self._clock.utc(), self._clock.monotonic_s() - self._start_s)
        self._wait_for_image()
        return timing

    def cancel(self) -> None:
        """Let `wait` end with `CameraDriverError`; from its own callback, or another thread."""
        self._cancelled = True

    def actual_s(self, resolution_s: float) -> float:
        """The exposure time as the camera says, where it can be believed; else as asked.

        Raises
        ------
        CameraDriverError
            if the camera says that it exposed for another time.
        """
        said = self._duration()
        if said is None or not (math.isfinite(said) and said > 0):
            return self._seconds
        if abs(said - self._seconds) <= max(0.02 * self._seconds, resolution_s, ROUNDING_S):
            return said
        if said in (self._habits.stuck_s, self._stuck_before):
            self._habits.stuck_s = said
            log.warning("%s: LastExposureDuration stays at %g s, and is not used", self._calls.where, said)
            return self._seconds
        what = f"{self._seconds:g} s were asked for, and the camera says that it exposed for {said:g} s"
        do = "Does another program use this camera? If it rounds exposures, ask for one that it can take"
        raise CameraDriverError(what, where=self._calls.where, do=do)

    def _find(self, error: CameraTransportError) -> None:
        """Whether the exposure runs whose start was not confirmed; the error again, if there is no sign of it."""
        log.warning("%s: StartExposure was not confirmed; asking whether it runs", self._calls.where)
        # from here on: the exposure may have begun at any moment until the server listens again
        self._mark_start()
        end = time.monotonic() + min(ASK_AGAIN_S, self._readout_s)
        while True:
            with contextlib.suppress(CameraTransportError):
                if self._runs():
                    log.warning("%s: it runs", self._calls.where)
                    return
            if time.monotonic() >= end:
                what = f"StartExposure was not confirmed, and no exposure runs ({error.what})"
                raise type(error)(what, where=error.where, do=error.do) from error
            time.sleep(0.1)

    def _runs(self) -> bool:
        if self._calls.state() in BUSY_STATES or self._start_time() != self._before.start_time:
            return True
        return self._calls.boolean("ImageReady") is not self._before.ready

    def _look(self) -> tuple[bool, int | None]:
        """Ask once, and keep the signs of a new frame."""
        self._go_on()
        ready, state = self._calls.boolean("ImageReady"), self._calls.state()
        if state == ERROR_STATE:
            raise _error_state(self._calls.where)
        self._seen_false |= not ready
        self._seen_busy |= state in BUSY_STATES
        return ready, state

    def _sleep_until(self, end_s: float) -> None:
        look_s = self._clock.monotonic_s() + WATCH_S
        while (left := end_s - self._clock.monotonic_s()) > 0:
            self._go_on()
            self._clock.sleep(min(left, STEP_S))
            if look_s <= self._clock.monotonic_s() < end_s:
                look_s += WATCH_S
                try:
                    self._look()
                except CameraTransportError as error:  # the exposure does not need the line; the end will tell
                    log.warning("%s", error)

    def _go_on(self) -> None:
        if self._cancelled:
            raise CameraDriverError("the exposure was aborted", where=self._calls.where)

    def _wait_for_image(self) -> None:
        start, pause, idle_since = time.monotonic(), FIRST_POLL_S, math.inf
        while True:
            ready, state = self._look()
            now = time.monotonic()
            if ready and state not in BUSY_STATES and (self._known_as_new() or self._differs()):
                return
            idle_since = min(idle_since, now) if state == 0 and not ready else math.inf
            if now - idle_since > GONE_S:
                what = "the camera is idle and has no image: the exposure is gone"
                raise CameraDriverError(what, where=self._calls.where, do="Was its server restarted?")
            if now - start > self._readout_s:
                self._habits.blind |= ready and state not in BUSY_STATES
                raise self._late(ready, state)
            time.sleep(min(pause, self._readout_s))
            pause = min(1.5 * pause, LONGEST_POLL_S)

    def _known_as_new(self) -> bool:
        if self._seen_false:
            return True
        if time.monotonic() - self._real_start_s < STALE_S:
            return False
        return self._seen_busy or not self._before.ready or self._start_time() != self._before.start_time

    def _differs(self) -> bool:
        """Whether the image is another one than before, where that is all there is to tell."""
        if self._old is None or time.monotonic() - self._real_start_s < STALE_S:
            return False
        image = self._fetch()
        if np.array_equal(image, self._old):
            return False
        self._new = image
        return True

    def image(self) -> NDArray[np.uint16]:
        """The image of this exposure, once `wait` has ended."""
        return self._fetch() if self._new is None else self._new

    def _mark_start(self) -> None:
        self._started, self._start_s = self._clock.utc(), self._clock.monotonic_s()
        self._real_start_s = time.monotonic()

    def _late(self, ready: bool, state: int | None) -> CameraTimeoutError:
        if ready and state in BUSY_STATES:
            what = f"CameraState stays at {state}"
        elif ready:
            what = "ImageReady never left the frame before: no sign of a new one"
        else:
            what = f"no image (CameraState {state})"
        what += f", {self._readout_s:g} s after the exposure"
        return CameraTimeoutError(what, where=self._calls.where, do="Raise camera.readout_timeout_s if it is just slow")

    def _start_time(self) -> str | None:
        return self._if_known(self._calls.text, "LastExposureStartTime")

    def _duration(self) -> float | None:
        return self._if_known(self._calls.number, "LastExposureDuration")

    def _if_known(self, read: Callable[[str], T], member: str) -> T | None:
        """None also for an error of the camera: before the first exposure there is nothing to tell."""
        try:
            return read(member)
        except CameraTransportError:
            raise
        except CameraError:
            return None


def check_exposure(seconds: float, info: CameraInfo, where: str) -> None:
    """Refuse an exposure that the camera cannot take, before it is asked."""
    low, high = info.exposure_min_s, info.exposure_max_s
    if not (math.isfinite(seconds) and seconds >= 0 and low * (1 - 1e-6) <= seconds <= high * (1 + 1e-6)):
        what = f"an exposure of {seconds:g} s is outside {low:g} to {high:g} s, the limits of this camera"
        raise CameraValueError(what, where=where, do="Choose an exposure inside")


def _error_state(where: str) -> CameraError:
    what = "the camera says that it is in its error state (CameraState 5)"
    return CameraDriverError(what, where=where, do="See the messages of its server; reconnect or restart it")
