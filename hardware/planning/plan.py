"""Which frames are taken, in which order, and how long that takes: pure data, no camera is asked."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

from darkpipe.errors import SettingsError
from darkpipe.files.layout import six_digits
from hardware.camera import CameraInfo
from hardware.planning.estimate import Estimate, estimate
from hardware.planning.slots import CapturePlan, Kind, PlannedExposure, Slot, exposure_text, temperature_text
from hardware.settings import AcquisitionSettings, DarkCaptureSettings

__all__ = ["CapturePlan", "Estimate", "PlannedExposure", "Slot", "estimate", "make_plan", "plan_table"]

MOST_STEPS = 2**53  # of a resolution; an exposure of more is a multiple of it as far as numbers go

LONGEST_BIAS_S = 1.0
"""A longer exposure is no bias: it holds dark current, and the pipeline refuses such a bias as mislabelled."""

MOST_FRAMES = 100_000
"""Of a plan. More is a slip of the pen: at a second a frame it would be more than a day of read-out alone."""


def make_plan(settings: AcquisitionSettings, info: CameraInfo | None, flat_exposure_s: float | None) -> CapturePlan:
    """The frames that the settings ask for, as far as this camera can take them.

    Parameters
    ----------
    info : limits of the camera; None where it is not known yet: nothing is rounded or left out for its sake.
    flat_exposure_s : exposure of the flats [s] as detected; None: that of the settings. If there is neither, flat darks
        are left out, and a remark says so.

    Raises
    ------
    SettingsError
        when no frame is left, or there are more than `MOST_FRAMES`.
    """
    remarks: list[str] = []
    exposures = _exposures(settings.dark_capture, info or CameraInfo(""), flat_exposure_s, remarks)
    if not exposures:
        told = "; ".join(remarks) or "nothing is asked for"
        raise SettingsError(f"no frame can be taken: {told}", where="dark_capture", do="Change the exposures.")
    temperatures: tuple[float | None, ...] = settings.temperatures_c or (None,)
    count = len(temperatures) * len(exposures) * settings.dark_capture.num_darks
    if count > MOST_FRAMES:
        raise SettingsError(
            f"the plan has {count} frames, more than {MOST_FRAMES}", where="dark_capture", do="Lower num_darks."
        )
    slots = [
        slot
        for temperature_c in temperatures
        for slot in _interleaved(exposures, temperature_c, settings.dark_capture.num_darks)
    ]
    return CapturePlan(tuple(slots), tuple(exposures), temperatures, tuple(remarks))


def _interleaved(exposures: Sequence[PlannedExposure], temperature_c: float | None, count: int) -> Iterator[Slot]:
    """Rounds of one frame of each exposure, the bias first. Every second round runs backwards, so that a steady drift
    has the same mean for all exposures."""
    biases = [e for e in exposures if e.kind == "bias"]
    darks = [e for e in exposures if e.kind == "dark"]
    for number in range(1, count + 1):
        for exposure in [*biases, *(darks if number % 2 else reversed(darks))]:
            yield Slot(exposure.kind, exposure.exposure_s, temperature_c, number)


def _exposures(
    settings: DarkCaptureSettings, info: CameraInfo, flat_exposure_s: float | None, remarks: list[str]
) -> list[PlannedExposure]:
    wanted: list[tuple[Kind, str, float]] = []
    if settings.select in ("all", "bias"):
        wanted.append(("bias", "bias", settings.min_exposure))
    if settings.select == "all":
        flat_s = flat_exposure_s if flat_exposure_s is not None else settings.flat_exposure_time
        if flat_s is None:
            remarks.append(
                "flat darks are left out: the exposure of the flats is not known"
                " (give dark_capture.flat_exposure_time, or flats_dir)"
            )
        else:
            wanted.append(("dark", "flat", flat_s))
    if settings.select in ("all", "science"):
        factors = settings.exposure_factors if settings.select == "all" else [1.0]
        wanted += [
            ("dark", f"science × {factor:g}", settings.science_exposure_time * factor)
            for factor in dict.fromkeys(factors)
        ]
    found: dict[float, PlannedExposure] = {}
    for kind, purpose, asked_s in wanted:
        exposure_s = _possible(kind, purpose, asked_s, settings.max_exposure, info, remarks)
        if exposure_s is not None:
            _merge(found, kind, purpose, exposure_s, remarks)
    return sorted(found.values(), key=lambda e: (e.kind != "bias", e.exposure_s))


def _merge(
    found: dict[float, PlannedExposure], kind: Kind, purpose: str, exposure_s: float, remarks: list[str]
) -> None:
    """Take in one exposure. A dark as short as the bias is the bias: it differs in nothing but its name."""
    if kind == "bias" and exposure_s > LONGEST_BIAS_S:
        remarks.append(f"{exposure_text(exposure_s)} s is too long for a bias: such frames are taken as darks")
        kind = "dark"
    other = found.get(exposure_s)
    if other is None:
        found[exposure_s] = PlannedExposure(kind, exposure_s, (purpose,))
        return
    remarks.append(f"{purpose} and {other.purposes[0]} are both {exposure_text(exposure_s)} s: taken once")
    found[exposure_s] = PlannedExposure(other.kind, exposure_s, (*other.purposes, purpose))


def _possible(
    kind: Kind, purpose: str, asked_s: float, longest_s: float, info: CameraInfo, remarks: list[str]
) -> float | None:
    """The exposure as this camera can take it; None if it cannot, or must not, which a remark says."""
    told = f"{purpose} ({exposure_text(six_digits(asked_s))} s)"
    shortest_s, camera_longest_s = _limit(info.exposure_min_s, 0.0), _limit(info.exposure_max_s, math.inf)
    if asked_s > longest_s * (1 + 1e-9):
        remarks.append(f"{told} is left out: longer than max_exposure, {exposure_text(longest_s)} s")
        return None
    if kind == "dark" and asked_s < shortest_s * (1 - 1e-9):
        remarks.append(f"{told} is left out: the camera takes {exposure_text(shortest_s)} s at least")
        return None
    resolution_s = _limit(info.exposure_resolution_s, 0.0)
    exposure_s = _rounded(max(asked_s, shortest_s), resolution_s, shortest_s, camera_longest_s, kind)
    if exposure_s > camera_longest_s * (1 + 1e-9):
        remarks.append(f"{told} is left out: the camera takes {exposure_text(camera_longest_s)} s at most")
        return None
    if exposure_s > longest_s * (1 + 1e-9) and asked_s < shortest_s:
        remarks.append(f"{told} is left out: the camera's shortest exposure is longer than max_exposure")
        return None
    if abs(exposure_s - asked_s) > 1e-5 * asked_s:
        why = "the shortest that the camera takes" if asked_s < shortest_s else "its resolution"
        remarks.append(f"{told} becomes {exposure_text(exposure_s)} s: {why}")
    return exposure_s


def _rounded(asked_s: float, resolution_s: float, shortest_s: float, longest_s: float, kind: Kind) -> float:
    """The multiple of the resolution next to the exposure that is within the limits; a dark is never 0 s."""
    if resolution_s > 0 and asked_s / resolution_s < MOST_STEPS:
        steps = round(asked_s / resolution_s)
        if steps * resolution_s < shortest_s * (1 - 1e-9) or (steps == 0 and kind == "dark"):
            steps += 1
        elif steps * resolution_s > longest_s * (1 + 1e-9) >= asked_s and steps > 1:
            steps -= 1
        asked_s = steps * resolution_s
    return six_digits(asked_s)


def _limit(value: float, default: float) -> float:
    """A limit as a driver says it, if it makes sense."""
    return value if math.isfinite(value) and value >= 0 else default


def plan_table(plan: CapturePlan, missing: Collection[Slot]) -> list[str]:
    """Lines for people: a row an exposure, a column a temperature; in it frames there / wanted."""
    lost = set(missing)
    counts: dict[tuple[Kind, float, float | None], list[int]] = {}
    for slot in plan.slots:
        count = counts.setdefault((slot.kind, slot.exposure_s, slot.temperature_c), [0, 0])
        count[0] += slot not in lost
        count[1] += 1
    table = [["", "exposure", *(_temperature_title(t) for t in plan.temperatures_c), "for"]]
    for exposure in plan.exposures:
        cells = [counts.get((exposure.kind, exposure.exposure_s, t), [0, 0]) for t in plan.temperatures_c]
        table.append(
            [
                exposure.kind,
                f"{exposure_text(exposure.exposure_s)} s",
                *(f"{there}/{wanted}" for there, wanted in cells),
                ", ".join(exposure.purposes),
            ]
        )
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["  ".join(_aligned(row, widths)).rstrip() for row in table]


def _temperature_title(temperature_c: float | None) -> str:
    return "uncooled" if temperature_c is None else f"{temperature_text(temperature_c)} °C"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Words to the left, numbers to the right."""
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if column in (0, len(row) - 1) else cell.rjust(width)
