"""One set of alike frames: what was expected of them, whether they agree, which belong to it."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkpipe.errors import DesignError, FrameError, SettingsError
from darkpipe.files.index import ACCEPTED as INDEX_ACCEPTED
from darkpipe.files.index import MOST_LINES, SELECTABLE, read_index, same_value
from darkpipe.files.survey import FrameSurvey
from darkpipe.files.tables import read_table, table_of, write_table
from darkpipe.science.grouping import cluster_exposures, cluster_values

COMBINED, MISMATCH, LEFT_OUT, REJECTED = "combined", "not as expected", "left out", "rejected"
EXPOSURE_TOLERANCE, LEAST_TOLERANCE_S = 0.01, 0.001
TEMPERATURE_TOLERANCE_C = 0.5
TOP_RAW = 65535.0
MOST_NAMES = 50  # of frames in a message; the table names all
OWN_KEYS = ("kind", "exposure", "temperature", "filter")
SELECT_KEYS = (*OWN_KEYS, *SELECTABLE)

_SHAPE = re.compile(r"\s*(\d+)\s*[x×,]\s*(\d+)\s*", re.IGNORECASE)
_WINDOW = re.compile(r"\s*(\d*)\s*:\s*(\d*)\s*,\s*(\d*)\s*:\s*(\d*)\s*")


def parse_shape(text: str) -> tuple[int, int]:
    """(rows, columns) of 'ROWSxCOLS'.

    Raises
    ------
    ValueError : it is none.
    """
    found = _SHAPE.fullmatch(text)
    if found is None or 0 in (shape := (int(found[1]), int(found[2]))):
        raise ValueError(f"a shape is ROWSxCOLS, such as 2048x3072 (rows first), not {text!r}")
    return shape


def parse_window(text: str, shape: tuple[int, int] | None = None) -> tuple[int, int, int, int]:
    """First row, row after the last, first column, column after the last of 'ROW0:ROW1,COL0:COL1'.

    As in numpy: counted from 0, the second number excluded, a missing number stands for the edge. Row 0 is the first
    row of the file, which pictures show at the bottom.

    Parameters
    ----------
    shape : (rows, columns) of the frame; None: only the form is looked at, and a missing last number is 0.

    Raises
    ------
    ValueError : it is none, is empty, or does not lie in the frame.
    """
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise ValueError(f"a window is ROW0:ROW1,COL0:COL1, such as 1740:1939,300:499 (rows first), not {text!r}")
    numbers = [int(part) if part else None for part in found.groups()]
    for first, last in ((numbers[0], numbers[1]), (numbers[2], numbers[3])):
        if last is not None and (first or 0) >= last:
            raise ValueError(f"the window {text!r} is empty: {first or 0} is not below {last}")
    rows, cols = shape or (0, 0)
    r0, r1 = numbers[0] or 0, rows if numbers[1] is None else numbers[1]
    c0, c1 = numbers[2] or 0, cols if numbers[3] is None else numbers[3]
    if shape is not None and not (r0 < r1 <= rows and c0 < c1 <= cols):
        raise ValueError(f"the window {text!r} does not lie in frames of {rows} rows and {cols} columns")
    return r0, r1, c0, c1


@dataclass(frozen=True)
class Expected:
    """What the headers must say; None: not asked.

    shape : (rows, cols). exposure_s : within 1 % or 1 ms. filter_name : but for case; '' or 'none': no filter.
    """

    shape: tuple[int, int] | None = None
    exposure_s: float | None = None
    filter_name: str | None = None

    def faults(self, row: Mapping[str, Any]) -> list[str]:
        """What a frame has that is not expected, in words."""
        told = []
        if self.shape is not None and (int(row["rows"]), int(row["cols"])) != self.shape:
            turned = (int(row["cols"]), int(row["rows"])) == self.shape
            hint = " (rows first)" if turned else ""
            told.append(f"{row['rows']} x {row['cols']} pixels, expected {self.shape[0]} x {self.shape[1]}{hint}")
        if self.exposure_s is not None and not same_exposure(float(row["exposure_s"]), self.exposure_s):
            told.append(f"exposure {float(row['exposure_s']):g} s, expected {self.exposure_s:g} s")
        wanted = _plain_filter(self.filter_name)
        if wanted is not None and not _same_text(row["filter"], wanted):
            told.append(f"{_filter_of(row)}, expected {wanted or 'none'}")
        return told


def same_exposure(one_s: float, other_s: float) -> bool:
    """Whether two exposures agree within 1 %, or 1 ms where that is more."""
    return abs(one_s - other_s) <= max(LEAST_TOLERANCE_S, EXPOSURE_TOLERANCE * abs(other_s)) * (1 + 1e-9)


def _plain_filter(name: str | None) -> str | None:
    """A filter's name as headers are read: 'none' is no name."""
    return "" if name is not None and _same_text(name, "none") else name


def _same_text(one: Any, other: Any) -> bool:
    return str(one).strip().casefold() == str(other).strip().casefold()


def _filter_of(row: Mapping[str, Any]) -> str:
    return f"filter {row['filter']}" if str(row["filter"]).strip() else "no filter"


def check_select(select: Mapping[str, str]) -> None:
    """Refuse what frames cannot be selected by.

    Raises
    ------
    SettingsError
        naming the unknown keys and the known ones, or a value that is no number where one is needed.
    """
    if unknown := sorted(set(select) - set(SELECT_KEYS)):
        raise SettingsError(
            f"cannot select frames by {', '.join(unknown)}", where="select", do="Known: " + ", ".join(SELECT_KEYS)
        )
    for key in ("exposure", "temperature"):
        try:
            float(select.get(key, 0))
        except ValueError:
            raise SettingsError(f"'{select[key]}' is no number", where=f"select {key}") from None


def _selected(row: Mapping[str, Any], select: Mapping[str, str]) -> str:
    """Why a frame is not among the selected ones; '' if it is."""
    for key, wanted in select.items():
        if key == "exposure":
            good, has = same_exposure(float(row["exposure_s"]), float(wanted)), f"{float(row['exposure_s']):g} s"
        elif key == "temperature":
            own = _temperature(row)
            good, has = abs(own - float(wanted)) <= TEMPERATURE_TOLERANCE_C, f"{own:g} °C"
        elif key in ("kind", "filter"):
            good, has = _same_text(row[key], _plain_filter(wanted)), str(row[key]) or "none"
        else:
            good, has = same_value(key, row[SELECTABLE[key]], wanted), str(row[SELECTABLE[key]])
        if not good:
            return f"{key} is {has}, selected is {wanted}"
    return ""


def _temperature(row: Mapping[str, Any]) -> float:
    """The set point, else the reading."""
    set_point = float(row["set_point_c"])
    return set_point if math.isfinite(set_point) else float(row["temperature_c"])


def check_frames(
    index: Path, surveys: Mapping[str, FrameSurvey], expected: Expected, select: Mapping[str, str], out: Path
) -> str:
    """Write the table of frames: a row for every file of the index with what it has and what became of it.

    Parameters
    ----------
    index : index.ecsv. surveys : of the accepted frames, by name.

    Returns
    -------
    digest of the table.
    """
    rows = []
    found = read_index(index)
    for r in found:
        row = {name: r[name] for name in _COLUMNS}
        survey = surveys.get(str(r["file"]))
        info = survey.info if survey is not None else None
        row["filter"] = info.filter_name.strip() if info is not None else ""
        row["top_raw"] = _top(survey)
        status, reason = REJECTED, str(r["reason"])
        if survey is not None and str(r["status"]) == INDEX_ACCEPTED:
            reason = _selected(row, select)
            status = LEFT_OUT if reason else COMBINED
        if status == COMBINED and (faults := expected.faults(row)):
            status, reason = MISMATCH, "; ".join(faults)
        rows.append({"file": str(r["file"]), "status": status, "reason": reason, **row})
    for row, group in zip(rows, _groups(rows), strict=True):
        row["group"] = group
    table = table_of(rows)
    root = Path(os.path.normpath(index.parent / str(found.meta["root"])))
    table.meta["root"] = Path(os.path.relpath(root, out.parent)).as_posix()
    return write_table(out, table)


_COLUMNS = (
    "kind", "exposure_s", "temperature_c", "set_point_c", "rows", "cols", "configuration", "camera", "gain_setting",
    "offset_setting", "em_gain", "binning", "readout_mode", "hdu", "dtype", "pedestal_adu", "saturation_raw",
    "median_raw", "sigma_raw", "n_high", "date_obs",
)  # fmt: skip


def _top(survey: FrameSurvey | None) -> float:
    if survey is None or not math.isfinite(survey.top_adu):
        return TOP_RAW
    stated = survey.info.saturation_adu if survey.info is not None else None
    return min(survey.top_adu, stated) if stated else survey.top_adu


def _groups(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Number of the group of each frame that is to be combined, the largest first, from 1; 0 of the others."""
    mine = [k for k, row in enumerate(rows) if row["status"] == COMBINED]
    if not mine:
        return [0] * len(rows)
    exposures = cluster_exposures([float(rows[k]["exposure_s"]) for k in mine])
    points = cluster_values([float(rows[k]["set_point_c"]) for k in mine], TEMPERATURE_TOLERANCE_C)
    keys = [
        (rows[k]["kind"], rows[k]["configuration"], int(e), str(rows[k]["filter"]).casefold(), int(t))
        for k, e, t in zip(mine, exposures, points, strict=True)
    ]
    numbers = {key: n for n, (key, _) in enumerate(Counter(keys).most_common(), 1)}
    found = [0] * len(rows)
    for k, key in zip(mine, keys, strict=True):
        found[k] = numbers[key]
    return found


@dataclass(frozen=True)
class FrameSet:
    """The frames of one set, in the order of their names; `rows` as in the table of frames."""

    paths: tuple[Path, ...]
    rows: tuple[Mapping[str, Any], ...]

    @property
    def names(self) -> list[str]:
        """Names of the files below the folder of frames."""
        return [str(row["file"]) for row in self.rows]

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.rows[0]["rows"]), int(self.rows[0]["cols"])

    def numbers(self, column: str) -> list[float]:
        """A column as numbers."""
        return [float(row[column]) for row in self.rows]

    def position(self, name: str) -> int:
        """Of a frame by its name, with or without folders; of '' the frame whose level is nearest to the middle one.

        Raises
        ------
        SettingsError
            when no frame, or more than one, is called so.
        """
        if name:
            found = [k for k, own in enumerate(self.names) if own == name]
            found = found or [k for k, own in enumerate(self.names) if own.rpartition("/")[2] == name]
            if len(found) != 1:
                told = "more than one frame" if found else "no frame of the set"
                raise SettingsError(f"{told} is called {name!r}", where="characterize.representative",
                                    do="There is: " + _shortened(self.names))  # fmt: skip
            return found[0]
        levels = self.numbers("median_raw")
        middle = sorted(levels)[len(levels) // 2]
        return min(range(len(levels)), key=lambda k: (abs(levels[k] - middle), self.names[k]))


def read_set(path: Path) -> FrameSet:
    """The set of the table of frames.

    Raises
    ------
    FrameError
        when a frame is not as expected, naming each with what it has and what was expected; when there is none.
    DesignError
        when the frames are of several groups, naming these; when there is one frame alone.
    """
    table = read_table(path)
    rows = [dict(zip(r.colnames, r.values(), strict=True)) for r in table]
    wrong = [row for row in rows if row["status"] == MISMATCH]
    mine = [row for row in rows if row["status"] == COMBINED]
    if wrong:
        reasons = dict.fromkeys(str(row["reason"]) for row in wrong)
        names = {reason: [str(row["file"]) for row in wrong if row["reason"] == reason] for reason in reasons}
        told = "; ".join(f"{reason}: {_shortened(files, MOST_NAMES)}" for reason, files in names.items())
        raise FrameError(
            f"{len(wrong)} of {len(wrong) + len(mine)} frames are not as expected. {told}", where=path,
            do="Correct what is expected, take these frames out of the folder, or choose frames with --select",
        )  # fmt: skip
    if not mine:
        why = Counter(f"{row['status']}: {row['reason']}" for row in rows).most_common(3)
        told = "; ".join(f"{count} {text}" for text, count in why)
        raise FrameError(
            f"no frame is left of {len(rows)} ({told})", where=path, do="See --basepath, --select, --kinds"
        )
    _agree(mine, path)
    if len(mine) == 1:
        raise DesignError(
            f"there is one frame alone, {mine[0]['file']}: less itself nothing is left of it", where=path,
            do="Give two frames or more, better ten",
        )  # fmt: skip
    root = Path(os.path.normpath(path.parent / str(table.meta["root"])))
    return FrameSet(tuple(root / str(row["file"]) for row in mine), tuple(mine))


def _agree(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Refuse frames of several groups."""
    numbers = sorted({int(row["group"]) for row in rows})
    if len(numbers) == 1:
        return
    groups = [[row for row in rows if int(row["group"]) == number] for number in numbers]
    words = [_words(group[0]) for group in groups]
    differing = [name for name in words[0] if len({told[name] for told in words}) > 1]
    if all(same_exposure(float(group[0]["exposure_s"]), float(groups[0][0]["exposure_s"])) for group in groups):
        differing = [name for name in differing if name != "exposure"]
    listed = "; ".join(
        f"{len(group)} of {', '.join(told[name] for name in differing)} "
        f"({_shortened([str(row['file']) for row in group], 3)})"
        for group, told in zip(groups[:MOST_LINES], words, strict=False)
    )
    more = f"; and {len(groups) - MOST_LINES} more groups" if len(groups) > MOST_LINES else ""
    keys = [name for name in differing if name in SELECT_KEYS]
    example = " ".join(f"--select {key}={_value(key, groups[0][0])}" for key in keys)
    raise DesignError(
        f"these {len(rows)} frames are {len(groups)} groups, not one set: {listed}{more}", where=path,
        do=f"Give a folder of one of them as --basepath, or choose one, for example with {example}",
    )  # fmt: skip


def _words(row: Mapping[str, Any]) -> dict[str, str]:
    """What must agree in a set, in words."""
    set_point = float(row["set_point_c"])
    return {
        "kind": f"kind {row['kind']}",
        "exposure": f"{float(row['exposure_s']):g} s",
        "temperature": f"set point {set_point:g} °C" if math.isfinite(set_point) else "no set point",
        "filter": _filter_of(row),
        "shape": f"{row['rows']} x {row['cols']} pixels",
        "configuration": str(row["configuration"]),
    }


def _value(key: str, row: Mapping[str, Any]) -> str:
    if key == "exposure":
        return f"{float(row['exposure_s']):g}"
    if key == "temperature":
        return f"{_temperature(row):g}"
    return str(row[key]) or "none"


def _shortened(names: Sequence[str], most: int = MOST_LINES) -> str:
    more = f", … {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
