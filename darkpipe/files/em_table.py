"""The table of a folder of EM-CCD frames: each frame with its EM gain, exposure and stack, or why it is refused."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from darkpipe.errors import DesignError, FrameError, PipelineError, ProductError
from darkpipe.files.em_frames import EmFrame, describe_em_frame
from darkpipe.files.layout import em_setting_name
from darkpipe.files.tables import read_table, write_table
from darkpipe.science.regions import ROMAN_CORONAGRAPH, Area, DetectorRegions

ACCEPTED, REJECTED = "accepted", "rejected"
_SAME_EXPOSURE, _SAME_EXPOSURE_S = 0.01, 1e-3  # relative, and seconds: as cells are told apart elsewhere
_ASKED_GAIN = 0.01  # relative: people ask for 100, a measured gain is 99.7
_AREAS = ("image", "active", "prescan")


@dataclass(frozen=True)
class EmStack:
    """Frames of one EM gain and exposure [s], each the mean over its frames; `name` as in the names of products."""

    name: str
    em_gain: float
    exposure_s: float
    frames: tuple[EmFrame, ...]


@dataclass(frozen=True)
class EmTable:
    """The stacks of a folder, by gain and exposure; and the geometry of its frames."""

    stacks: tuple[EmStack, ...]
    regions: DetectorRegions

    def chosen(self, em_gain: float | None, exposure_s: float | None) -> list[EmStack]:
        """The stacks of this gain (1 %) and exposure (1 % or 1 ms); None: of any.

        Raises
        ------
        DesignError : there is none.
        """
        found = [
            s
            for s in self.stacks
            if (em_gain is None or abs(s.em_gain - em_gain) <= _ASKED_GAIN * em_gain)
            and (exposure_s is None or _same_exposure(s.exposure_s, exposure_s))
        ]
        if not found:
            wish = [f"EM gain {em_gain:g}"] if em_gain is not None else []
            wish += [f"{exposure_s:g} s"] if exposure_s is not None else []
            there = ", ".join(f"{s.em_gain:g} at {s.exposure_s:g} s" for s in self.stacks[:20])
            raise DesignError(
                f"no frames of {' and '.join(wish)}",
                do=f"there are: {there}{' and more' if len(self.stacks) > 20 else ''}",
            )
        return found


def regions_of(frame: tuple[int, int], detector: str, areas: Mapping[str, Any]) -> DetectorRegions:
    """The geometry of frames of (rows, cols).

    detector : 'roman_coronagraph', of which `areas` replaces parts, or 'custom'.
    areas : 'image', 'active', 'prescan' as (first row, first column, rows, columns) and 'telemetry_rows' as (first,
        after the last); None: not given.

    Raises
    ------
    DesignError : areas that do not lie in the frame.
    """
    known = ROMAN_CORONAGRAPH if detector == "roman_coronagraph" else DetectorRegions.whole(*frame)
    rows, cols = known.shape
    given = {name: Area(*areas[name]) for name in _AREAS if areas.get(name) is not None}
    telemetry = areas.get("telemetry_rows")
    return DetectorRegions(
        rows,
        cols,
        image=given.get("image", known.image),
        active=given.get("active", known.active),
        prescan=given.get("prescan", known.prescan),
        telemetry_rows=known.telemetry_rows if telemetry is None else (telemetry[0], telemetry[1]),
    )


def regions_data(regions: DetectorRegions) -> dict[str, Any]:
    """Regions as plain data."""
    areas = {name: getattr(regions, name) for name in _AREAS}
    boxes = {n: None if a is None else [a.first_row, a.first_col, a.rows, a.cols] for n, a in areas.items()}
    return {"shape": list(regions.shape), **boxes, "telemetry_rows": list(regions.telemetry_rows)}


def regions_text(regions: DetectorRegions) -> str:
    """Regions in words."""
    image = regions.image
    parts = [f"{regions.rows} x {regions.cols}"]
    whole = image == Area(0, 0, *regions.shape)
    at = f"image {image.rows} x {image.cols} from ({image.first_row}, {image.first_col})"
    parts.append("all image" if whole else at)
    for name in ("active", "prescan"):
        area: Area | None = getattr(regions, name)
        if area is not None:
            parts.append(f"{name} {area.rows} x {area.cols}")
    if rows := int(regions.telemetry.sum()):
        parts.append(f"telemetry {rows} row(s)")
    return ", ".join(parts)


def regions_from(data: Mapping[str, Any]) -> DetectorRegions:
    """The opposite of `regions_data`."""
    return regions_of((int(data["shape"][0]), int(data["shape"][1])), "custom", data)


def describe_frames(
    paths: Sequence[Path], *, synonyms: Mapping[str, Sequence[str]], assume_electrons: bool, divided: str
) -> tuple[list[EmFrame], dict[Path, str]]:
    """The usable ones of some frames, and why the others are not.

    divided : 'yes', 'no', or 'auto' for what the unit of a frame says.
    """
    good: list[EmFrame] = []
    refused: dict[Path, str] = {}
    for path in paths:
        try:
            frame = describe_em_frame(path, synonyms=synonyms, assume_electrons=assume_electrons)
        except PipelineError as error:
            refused[path] = error.what
            continue
        if divided != "auto":
            frame = EmFrame(**{**vars(frame), "divided": divided == "yes"})
        good.append(frame)
    return good, refused


def common_shape(frames: Sequence[EmFrame]) -> tuple[int, int]:
    """The shape that most frames have.

    Raises
    ------
    FrameError : there is no frame, or two shapes have as many.
    """
    counts = Counter(frame.shape for frame in frames).most_common(2)
    if not counts:
        raise FrameError("no frame can be used")
    if len(counts) == 2 and counts[0][1] == counts[1][1]:
        shapes = " and ".join(f"{r} x {c}" for (r, c), _ in counts)
        raise FrameError(f"as many frames of {shapes} pixels", do="keep those of one detector and read-out in a folder")
    return counts[0][0]


def stacks_of(frames: Sequence[EmFrame], same_gain: float) -> list[EmStack]:
    """Frames sorted into stacks: gains within a relative `same_gain` of the lowest, exposures within 1 % or 1 ms."""
    groups: list[list[EmFrame]] = []
    for frame in sorted(frames, key=lambda f: (f.em_gain, f.exposure_s, f.path)):
        for group in groups:
            first = group[0]
            near = abs(frame.em_gain - first.em_gain) <= same_gain * first.em_gain
            if near and _same_exposure(frame.exposure_s, first.exposure_s):
                group.append(frame)
                break
        else:
            groups.append([frame])
    stacks = []
    for group in groups:
        # six digits: a mean of equal numbers may differ from them in the last
        gain, exposure = (
            float(f"{np.mean(v):.6g}") for v in ([f.em_gain for f in group], [f.exposure_s for f in group])
        )
        stacks.append(EmStack(em_setting_name(gain, exposure), gain, exposure, tuple(group)))
    if twice := [name for name, n in Counter(s.name for s in stacks).items() if n > 1]:
        raise FrameError(f"two stacks come out with one EM gain and exposure: {', '.join(twice)}", do="raise same_gain")
    return sorted(stacks, key=lambda s: (s.em_gain, s.exposure_s))


def _same_exposure(a: float, b: float) -> bool:
    return abs(a - b) <= max(_SAME_EXPOSURE * max(a, b), _SAME_EXPOSURE_S)


def write_em_table(
    path: Path, root: Path, stacks: Sequence[EmStack], refused: Mapping[Path, str], regions: DetectorRegions
) -> str:
    """Write the table; names of frames are relative to `root`, which stands in it relative to the table's folder."""
    rows: list[dict[str, Any]] = [
        {
            "file": frame.path.relative_to(root).as_posix(),
            "status": ACCEPTED,
            "reason": "",
            "stack": stack.name,
            "em_gain": frame.em_gain,
            "exposure_s": frame.exposure_s,
            "stack_em_gain": stack.em_gain,
            "stack_exposure_s": stack.exposure_s,
            "hdu": frame.hdu,
            "errors": frame.with_errors,
            "mask": frame.with_mask,
            "divided": frame.divided,
        }
        for stack in stacks
        for frame in stack.frames
    ]
    nothing = {"stack": "", **dict.fromkeys(("em_gain", "exposure_s", "stack_em_gain", "stack_exposure_s"), np.nan)}
    nothing |= {"hdu": 0, "errors": False, "mask": False, "divided": False}
    rows += [
        {"file": file.relative_to(root).as_posix(), "status": REJECTED, "reason": reason, **nothing}
        for file, reason in refused.items()
    ]
    table = Table(rows=rows)
    table.meta["root"] = Path(os.path.relpath(root, os.path.abspath(path.parent))).as_posix()
    table.meta["regions"] = regions_data(regions)
    return write_table(path, table)


def read_em_table(path: Path) -> EmTable:
    """The stacks of the table.

    Raises
    ------
    ProductError : the table is missing or damaged.
    """
    table = read_table(path)
    try:
        root = Path(os.path.abspath(path.parent / table.meta["root"]))
        regions = regions_from(table.meta["regions"])
        found: dict[str, list[EmFrame]] = {}
        settings: dict[str, tuple[float, float]] = {}
        for r in table[table["status"] == ACCEPTED]:
            frame = EmFrame(
                root / str(r["file"]), float(r["em_gain"]), float(r["exposure_s"]), regions.shape, int(r["hdu"]),
                bool(r["errors"]), bool(r["mask"]), bool(r["divided"]),
            )  # fmt: skip
            found.setdefault(str(r["stack"]), []).append(frame)
            settings[str(r["stack"])] = (float(r["stack_em_gain"]), float(r["stack_exposure_s"]))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ProductError(f"the table of frames lacks {error}", where=path, do="run with --force") from error
    return EmTable(tuple(EmStack(name, *settings[name], tuple(frames)) for name, frames in found.items()), regions)


def frame_data(frame: EmFrame) -> list[Any]:
    """What a job must be told of a frame besides its path and shape: plain data, short, since there are many frames."""
    return [frame.em_gain, frame.exposure_s, frame.hdu, frame.with_errors, frame.with_mask, frame.divided]


def frames_from(paths: Sequence[Path], shape: tuple[int, int], data: Sequence[Sequence[Any]]) -> list[EmFrame]:
    """The opposite of `frame_data`."""
    return [EmFrame(path, gain, t, shape, *more) for path, (gain, t, *more) in zip(paths, data, strict=True)]


def input_names(paths: Sequence[Path]) -> list[str]:
    """Names of frames for the table of inputs, relative to the folder that they have in common."""
    root = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(root).as_posix() for path in paths]
