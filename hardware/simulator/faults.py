"""What can go wrong on request: the bad manners of real cameras, servers and lines, one by one."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from hardware.errors import CameraValueError

CALL, EXPOSURE, DOWNLOAD, READING, LASTING = "call", "exposure", "download", "reading", "lasting"

# what is counted to find the first occasion, and what happens then
FAULTS: dict[str, tuple[str, str]] = {
    "hang": (CALL, "no answer, the connection stays open"),
    "drop": (CALL, "the connection is closed without an answer, nothing is done"),
    "lost_answer": (CALL, "it is done, then the connection is closed without an answer (startexposure, unless said)"),
    "slow_call": (CALL, "the answer comes late: value [s], 2 unless said"),
    "garbage": (CALL, "an answer that is no JSON"),
    "not_implemented": (CALL, "the member named is refused as not implemented"),
    "not_implemented_400": (CALL, "what is not implemented is answered with HTTP 400"),
    "driver_error": (CALL, "error 0x500 of the driver"),
    "slow_image": (DOWNLOAD, "the image trickles: value [s] in all, 30 unless said"),
    "truncated_image": (DOWNLOAD, "half the image, then the connection closes; value 1: as if that were all"),
    "swapped_dimensions": (DOWNLOAD, "width and height change places"),
    "wrong_dimensions": (DOWNLOAD, "an image that lacks its last column"),
    "wrong_element_type": (DOWNLOAD, "another element type: value, the unknown 42 unless said"),
    "error_frame": (DOWNLOAD, "an error of the driver in place of the image"),
    "camera_error": (EXPOSURE, "the camera state becomes 5 when the exposure ends"),
    "never_ready": (EXPOSURE, "the camera state stays at 4, the image is never ready"),
    "stale_ready": (EXPOSURE, "the last image is still ready for value [s], 0.2 unless said"),
    "light_leak": (EXPOSURE, "light on one side: value [ADU/s], 20 unless said"),
    "duplicate_image": (EXPOSURE, "the image of the exposure before"),
    "constant_image": (EXPOSURE, "the same count everywhere: value, 1000 unless said"),
    "saturated_image": (EXPOSURE, "the highest count everywhere"),
    "restart": (EXPOSURE, "the camera restarts: settings, set point, cooler, exposure and connection are lost"),
    "implausible_reading": (READING, "the thermometer says value [°C], nan or null; -273.15 unless said"),
    "frozen_reading": (LASTING, "the thermometer stays where it is"),
    "cooler_never_arrives": (LASTING, "most of the cooler's power is gone"),
    "inverted_switch": (LASTING, "CoolerOn true switches it off, as far as the cold is concerned"),
    "ignored_set_point": (LASTING, "the set point reads back and has no effect"),
    "lower_case_switch": (LASTING, "CoolerOn takes 'true' alone; all else, 'True' as well, switches it off"),
}

ONCE = ("restart",)  # these act once, unless told otherwise
DEFAULT_MEMBER = {"lost_answer": "startexposure"}


@dataclass
class Fault:
    """One fault that is switched on.

    member : acts on this member alone; None: on all. first : acts from this occasion on, 1 is the next. times : so
    often; None: until it is cleared. value : see `FAULTS`. seen : occasions so far.

    Raises
    ------
    CameraValueError
        for an unknown name, or arguments that make no sense.
    """

    name: str
    member: str | None = None
    first: int = 1
    times: int | None = None
    value: float | str | None = None
    seen: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        name = self.name
        if name not in FAULTS:
            raise CameraValueError(f"there is no fault '{name}'", do="There are: " + ", ".join(FAULTS) + ".")
        if self.times is None and name in ONCE:
            self.times = 1
        for number in (self.first, self.times):
            if number is not None and not (type(number) is int and number >= 1):
                raise CameraValueError(f"fault {name}: first and times are whole numbers from 1, not {number}")
        if self.member is not None and FAULTS[name][0] != CALL:
            raise CameraValueError(f"fault {name} does not belong to a member", do="Leave the member out.")
        self.member = DEFAULT_MEMBER.get(name) if self.member is None else str(self.member).lower()
        if name == "not_implemented" and self.member is None:
            raise CameraValueError("fault not_implemented needs a member", do="Say, for example, member=gain.")
        if self.value is not None and not (name == "implausible_reading" and self.value == "null"):
            try:
                self.value = float(self.value)
            except (TypeError, ValueError):
                raise CameraValueError(f"fault {name}: value '{self.value}' is not a number") from None

    def meant_for(self, member: str | None) -> bool:
        """Whether it acts on this member; on 'action', by which faults are switched off again, if it says so alone."""
        return self.member == member if self.member is not None else member != "action"

    def number(self, default: float) -> float:
        """The value, or its default."""
        return default if self.value is None else float(self.value)

    def occasion(self) -> bool:
        """Count an occasion; whether the fault acts on it."""
        self.seen += 1
        after = self.seen - self.first
        return after >= 0 and (self.times is None or after < self.times)


class Faults:
    """The faults that are switched on; safe to use from any thread.

    Faults that last (cooler, thermometer) act at once where `first` is 1, else from that exposure on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: dict[str, Fault] = {}

    def set(
        self,
        name: str,
        *,
        member: str | None = None,
        first: int = 1,
        times: int | None = None,
        value: float | str | None = None,
    ) -> None:
        """Switch a fault on; the arguments are those of `Fault`, which may raise `CameraValueError`."""
        self.arm(Fault(name, member, first, times, value))

    def arm(self, fault: Fault) -> None:
        """Switch a fault on, in place of an older one of that name."""
        with self._lock:
            self._armed[fault.name] = fault

    def clear(self, name: str | None = None) -> None:
        """Switch one off, or all. Raises `CameraValueError` for a name that no fault has."""
        if name is not None and name not in FAULTS:
            raise CameraValueError(f"there is no fault '{name}'")
        with self._lock:
            if name is None:
                self._armed.clear()
            else:
                self._armed.pop(name, None)

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the faults that are on, whether they have acted or not."""
        with self._lock:
            return tuple(self._armed)

    def acts(self, name: str, member: str | None = None) -> Fault | None:
        """Count an occasion of this fault, if it is on and meant for the member; the fault if it acts on it."""
        with self._lock:
            fault = self._armed.get(name)
            if fault is None or not fault.meant_for(member):
                return None
            return fault if fault.occasion() else None

    def exposure(self) -> None:
        """An exposure begins: an occasion of the lasting faults."""
        with self._lock:
            for fault in self._armed.values():
                if FAULTS[fault.name][0] == LASTING:
                    fault.seen += 1

    def lasting(self, name: str) -> Fault | None:
        """A lasting fault, if it acts now."""
        with self._lock:
            fault = self._armed.get(name)
            if fault is None or fault.seen < fault.first - 1:
                return None
            ended = fault.times is not None and fault.seen >= fault.first - 1 + fault.times
            return None if ended else fault


def parse_fault(text: str) -> Fault:
    """A fault from 'NAME[=FIRST][,times=N][,member=NAME][,value=X]', as in 'drop=3,times=1,member=camerastate'.

    Raises
    ------
    CameraValueError
        if it cannot be read.
    """
    head, *rest = text.split(",")
    name, _, first = head.partition("=")
    told: dict[str, Any] = {"first": first} if first else {}
    told |= {key.strip(): value.strip() for key, _, value in (part.partition("=") for part in rest)}
    try:
        told |= {key: int(told[key]) for key in ("first", "times") if key in told}
        return Fault(name.strip(), **told)
    except (TypeError, ValueError):
        do = "Write NAME[=FIRST][,times=N][,member=NAME][,value=X]."
        raise CameraValueError(f"fault '{text}' cannot be read", do=do) from None
