"""Tables of step 2: which master each bias frame belongs to, which bias each dark gets, and what level is left."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import xxhash
from astropy.table import Table
from numpy.typing import NDArray

from darkpipe.files.bands import rows_of
from darkpipe.files.bias_files import BiasSource
from darkpipe.files.index import ACCEPTED, REJECTED, RawFrame
from darkpipe.files.layout import temperature_label
from darkpipe.files.masters import ReferenceValues
from darkpipe.files.products import read_shape
from darkpipe.files.tables import table_of
from darkpipe.science.cells import CellOfFrames, group_frames, odd_frames
from darkpipe.science.middle import Middle, settle

LINE = "line"  # name of the bias model b0 + b1·(T - T_ref) in the tables
NAN = math.nan
PATTERN_SIGMAS = 5.0  # of the spread of a bias frame, above which its pixels hold charge


@dataclass(frozen=True)
class Tolerances:
    """Within which frames are one cell: temperature [°C], exposure [fraction, and 1 ms]."""

    temperature_c: float
    exposure: float


def cells_of(frames: Sequence[RawFrame], tolerances: Tolerances, *, biases: bool = False) -> list[CellOfFrames]:
    """Cells of raw frames; biases are grouped by temperature alone."""
    exposures = [0.0] * len(frames) if biases else [f.exposure_s for f in frames]
    return group_frames(
        [f.set_point_c for f in frames],
        [f.temperature_c for f in frames],
        exposures,
        temperature_tolerance_c=tolerances.temperature_c,
        exposure_tolerance=tolerances.exposure,
    )


def bias_tables(frames: Sequence[RawFrame], tolerances: Tolerances) -> tuple[Table, Table]:
    """(master biases, bias frames): one row a temperature, one row a frame with its master or its reason."""
    masters: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for cell in cells_of(frames, tolerances, biases=True):
        members = [frames[i] for i in cell.members]
        name = _unused(temperature_label(cell.temperature.temperature_c), {m["bias"] for m in masters})
        # zero-based: frames of one temperature may carry different pedestals
        levels = [m.median + m.pedestal_adu for m in members]
        corners = np.array([m.corners for m in members]) + np.array([m.pedestal_adu for m in members])[:, None]
        noise = float(np.median([m.sigma for m in members]))
        reasons = odd_frames(levels, [m.sigma for m in members], corners, noise, 0.0)
        kept = [lv for lv, why in zip(levels, reasons, strict=True) if not why]
        middle = float(np.median(kept or levels))
        # the master takes the pedestal of its first frame for all of them
        pedestal = next((m.pedestal_adu for m, why in zip(members, reasons, strict=True) if not why), 0.0)
        for m, level, why in zip(members, levels, reasons, strict=True):
            rows.append(
                {
                    "file": m.file,
                    "bias": name,
                    "status": REJECTED if why else ACCEPTED,
                    "reason": why,
                    "hdu": m.hdu,
                    "level_raw": level,
                    "offset_raw": level - middle - (m.pedestal_adu - pedestal),
                }
            )
        masters.append(
            {
                "bias": name,
                "temperature_c": cell.temperature.temperature_c,
                "temperature_sigma_c": cell.temperature.sigma_c,
                "temperature_source": cell.temperature.source,
                "frames": len(kept),
                "exposure_s": float(np.median([m.exposure_s for m in members])),
                "level_raw": middle,
            }
        )
    return table_of(masters), table_of(rows)


@dataclass(frozen=True)
class BiasStack:
    """The accepted bias frames of one master, what each stands above the level of the master, and that level."""

    name: str
    temperature_c: float
    level_raw: float
    frames: list[RawFrame]
    offset_raw: list[float]

    @property
    def pattern_top_raw(self) -> float:
        """Beyond the pattern and noise of all but hot pixels: what stands above this is charge, and has shot noise."""
        return self.level_raw + PATTERN_SIGMAS * float(np.median([f.sigma for f in self.frames]))


def bias_stacks(masters: Table, rows: Table, biases: Sequence[RawFrame]) -> dict[str, BiasStack]:
    """What `bias_tables` made, with its frames again; by name."""
    by_file = {f.file: f for f in biases}
    stacks = {
        str(r["bias"]): BiasStack(str(r["bias"]), float(r["temperature_c"]), float(r["level_raw"]), [], [])
        for r in masters
    }
    for r in rows:
        if str(r["status"]) == ACCEPTED:
            stacks[str(r["bias"])].frames.append(by_file[str(r["file"])])
            stacks[str(r["bias"])].offset_raw.append(float(r["offset_raw"]))
    return stacks


def corrected_names(files: Iterable[str]) -> dict[str, str]:
    """A name without folders for each file; two that would be called the same get a mark, and so does one that holds
    what does not print: a list of products in a terminal shows it."""
    given = {file: os.path.splitext(file.replace("/", "__"))[0] for file in files}
    stems = {file: "".join(c if c.isprintable() else "-" for c in stem) for file, stem in given.items()}
    counts = Counter(stem.casefold() for stem in stems.values())
    return {
        file: stem if counts[stem.casefold()] == 1 and stem == given[file] else f"{stem}-{_mark(file)}"
        for file, stem in stems.items()
    }


def _mark(file: str) -> str:
    return xxhash.xxh3_64_hexdigest(file.encode("utf-8", "surrogatepass"))[:8]


def _unused(name: str, taken: set[str]) -> str:
    """A name that is not taken yet: two clusters may round to one tenth of a degree."""
    number, free = 2, name
    while free in taken:
        free, number = f"{name}.{number}", number + 1
    return free


@dataclass(frozen=True)
class Levels:
    """What a bias reads: robust median and the medians of its corners [native ADU]."""

    median: float
    corners: tuple[float, float, float, float]

    @classmethod
    def of(cls, bias: BiasSource) -> Levels:
        """Of a bias, in boxes of an eighth of each side; read in bands.

        Raises
        ------
        ProductError
            when the file is missing or damaged.
        """
        rows, cols = shape = read_shape(bias.path)
        r, c = max(1, rows // 8), max(1, cols // 8)
        ends = (slice(0, r), slice(rows - r, rows)), (slice(0, c), slice(cols - c, cols))
        boxes = [(down, across) for down in ends[0] for across in ends[1]]
        middles = [Middle() for _ in range(5)]

        def bands() -> Iterator[list[tuple[NDArray[np.float32], NDArray[np.bool_]]]]:
            for band in rows_of(shape, 32):
                level = bias.level(band)
                some = [level, *(level[_within(down, band), across] for down, across in boxes)]
                yield [(part, np.isfinite(part)) for part in some]

        settle(bands, middles)
        whole, *corners = (middle.single for middle in middles)
        tl, tr, bl, br = corners
        return cls(whole, (tl, tr, bl, br))


def _within(rows: slice, band: slice) -> slice:
    """Rows of a sensor as rows of a band."""
    first = max(rows.start - band.start, 0)
    return slice(first, max(rows.stop - band.start, first))


def choose_bias(temperature_c: float, biases: Mapping[str, float], tolerance_c: float, line: bool) -> str:
    """Name of the bias of a dark at this temperature: the nearest master within the tolerance, else the line, else
    the nearest master, else ''. `biases`: temperature of each master."""
    if biases:
        nearest = min(biases, key=lambda b: abs(biases[b] - temperature_c))
        if abs(biases[nearest] - temperature_c) <= tolerance_c or not line:
            return nearest
    return LINE if line else ""


def corrected_rows(
    darks: Sequence[RawFrame],
    tolerances: Tolerances,
    reference: ReferenceValues,
    biases: Mapping[str, float],
    levels_of: Mapping[str, Levels],
    line: BiasSource | None,
    bias_tolerance_c: float,
    noise_map: bool,
) -> Table:
    """One row a dark: its cell's temperature, its bias, the level left after it, and whether it fits its cell.

    The table's meta holds the tolerances that made the cells, whether there is a read-noise map, and notes.
    """
    rows = []
    notes: dict[str, None] = {}
    for cell in cells_of(darks, tolerances):
        members = [darks[i] for i in cell.members]
        temperature = cell.temperature.temperature_c
        bias = choose_bias(temperature, biases, bias_tolerance_c, line is not None)
        zero = Levels(0.0, (0.0, 0.0, 0.0, 0.0))
        if bias == LINE and line is not None:
            zero = Levels.of(replace(line, temperature_c=temperature))
        elif bias:
            zero = levels_of[bias]
            if abs(biases[bias] - temperature) > bias_tolerance_c:
                notes[f"darks at {temperature:.1f} C get the bias of {biases[bias]:.1f} C: none is nearer"] = None
        scale = reference.scale_factor
        level = [m.median / scale + m.pedestal_adu - zero.median for m in members]
        corners = np.array([m.corners for m in members]) / scale - np.array(zero.corners)
        corners += np.array([m.pedestal_adu for m in members])[:, None]
        signal = float(np.median(level)) if bias else 0.0
        spread = [m.sigma / scale for m in members]
        reasons = odd_frames(level, spread, corners, reference.read_noise_adu, signal)
        kept = [lv for lv, why in zip(level, reasons, strict=True) if not why]
        middle = float(np.median(kept or level))
        for i, m in enumerate(members):
            rows.append(
                {
                    "file": m.file,
                    "status": REJECTED if reasons[i] else ACCEPTED,
                    "reason": reasons[i],
                    "exposure_s": m.exposure_s,
                    "temperature_c": m.temperature_c,
                    "set_point_c": m.set_point_c,
                    "cell_temperature_c": temperature,
                    "bias": bias,
                    "level_adu": round(level[i], 4),
                    "spread_adu": round(spread[i], 4),
                    "gradient_adu": round(float(np.ptp(corners[i])), 4),
                    "offset_adu": round(level[i] - middle, 4),
                }
            )
    order = {d.file: i for i, d in enumerate(darks)}
    table = table_of(sorted(rows, key=lambda r: order[str(r["file"])]))
    table.meta["tolerances"] = asdict(tolerances)
    table.meta["noise_map"] = noise_map
    table.meta["notes"] = list(notes)
    return table
