"""What an acquisition did, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hardware.cooling import CoolingStatus


@dataclass(frozen=True)
class Rejected:
    """A frame that came and is not in the library: where it stands, and why."""

    path: Path
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class CaptureResult:
    """What `DarkCapture.capture_darks` and its siblings did.

    files : frames of the plan that stand in the library now, in the order of the plan.
    taken : those that this call took; rejected : those that it put aside.
    skipped_c : temperatures that were left out, with the reason [°C].
    remarks : what the plan dropped, rounded, merged.
    statistics : counts and times: frames, taken, rejected, retakes, exposure_s, elapsed_s.
    """

    session: str
    files: tuple[Path, ...] = ()
    taken: tuple[Path, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    skipped_c: dict[float | None, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    statistics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CaptureStatus:
    """Where an acquisition stands.

    wanted, there, taken, rejected : frames of the plan; in the library; taken and put aside since the start.
    exposures_s : those of the plan. folder : of the raw frames. cooling : None where the camera cannot be asked.
    """

    camera: str
    session: str
    folder: Path
    exposures_s: tuple[float, ...]
    temperatures_c: tuple[float | None, ...]
    wanted: int
    there: int
    taken: int
    rejected: int
    time_left_s: float
    cooling: CoolingStatus | None
