"""How long a plan takes and how much disk, before its first frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from darkpipe.files.fits_bytes import BLOCK
from hardware.camera import CameraInfo
from hardware.planning.slots import CapturePlan, Slot
from hardware.settings import AcquisitionSettings, CoolingSettings

AMBIENT_C = 20.0  # where nothing is known
COOLING_C_PER_MIN = 4.0  # of a camera that cools in one step, on average over its way
READOUT_S = 0.5  # a frame: commands, polling, checks
READOUT_BYTES_PER_S = 30e6  # USB 3, driver, network and disk together
HEADER_BLOCKS = 2
LIFETIME_S = 2.5e9


@dataclass(frozen=True)
class Estimate:
    """What the missing frames of a plan cost; all but frames and exposure_s are estimates.

    bytes : on disk; 0 while the size of the frames is unknown. lines : the same for people.
    """

    frames: int
    bytes: int
    exposure_s: float
    overhead_s: float
    cooling_s: float
    total_s: float
    lines: tuple[str, ...]


def frame_bytes(shape: tuple[int, int]) -> int:
    """Size of the file of a frame of (rows, cols)."""
    return (HEADER_BLOCKS + -(-shape[0] * shape[1] * 2 // BLOCK)) * BLOCK


def estimate(
    plan: CapturePlan,
    missing: Sequence[Slot],
    info: CameraInfo | None,
    settings: AcquisitionSettings,
    start_c: float | None,
) -> Estimate:
    """What is still to be spent.

    Parameters
    ----------
    missing : slots of the plan that are not taken yet.
    info : of the camera, for the size of its frames. start_c : sensor temperature now, if known.
    """
    size = frame_bytes(info.shape) if info is not None and min(info.shape) > 0 else 0
    exposure_s = sum(slot.exposure_s for slot in missing)
    biases = sum(slot.kind == "bias" for slot in missing)
    overhead_s = len(missing) * (READOUT_S + size / READOUT_BYTES_PER_S)
    overhead_s += biases * settings.dark_capture.bias_pause_s
    left = {slot.temperature_c for slot in missing}
    targets = [t for t in plan.temperatures_c if t is not None and t in left]
    cooling_s = _cooling_s(targets, settings.camera.cooling, AMBIENT_C if start_c is None else start_c)
    total_s = exposure_s + overhead_s + cooling_s
    frames = "1 frame" if len(missing) == 1 else f"{len(missing)} frames"
    lines = (
        f"{frames} to take of {len(plan.slots)}" + (f", {bytes_text(size * len(missing))}" if size else ""),
        f"about {duration_text(total_s)}: exposures {duration_text(exposure_s)}, read-out {duration_text(overhead_s)}"
        + (f", cooling and warm-up {duration_text(cooling_s)}" if cooling_s else ""),
    )
    return Estimate(len(missing), size * len(missing), exposure_s, overhead_s, cooling_s, total_s, lines)


def _cooling_s(targets_c: Sequence[float], cooling: CoolingSettings, start_c: float) -> float:
    """Time on the way to each temperature and until it is stable, and for the warm-up at the end."""
    if not targets_c:
        return 0.0
    if not cooling.auto_cooling:
        return len(targets_c) * cooling.stable_seconds if cooling.wait_for_cooling else 0.0
    seconds, at_c = 0.0, start_c
    for target_c in targets_c:
        if cooling.wait_for_cooling:
            speed = min(cooling.ramp_c_per_min or COOLING_C_PER_MIN, COOLING_C_PER_MIN)
            seconds += abs(target_c - at_c) / speed * 60 + cooling.stable_seconds
        at_c = target_c
    if cooling.warmup:
        seconds += max(max(AMBIENT_C, start_c) - at_c, 0.0) / cooling.warmup_c_per_min * 60
    return seconds


def duration_text(seconds: float) -> str:
    """'45 s', '12 min', '3 h 05 min'."""
    if not seconds < LIFETIME_S:
        return "longer than a lifetime"
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds else "0 s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def bytes_text(count: int) -> str:
    """'850 kB', '12.4 GB'."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
