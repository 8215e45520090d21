"""The index of a campaign's raw frames (`index.ecsv`): every file found, accepted or rejected with its reason."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from darkpipe.errors import ProductError, SettingsError
from darkpipe.files.frames import FrameSurvey, RawSource
from darkpipe.files.headers import CALIBRATION, configuration_name, usable_as
from darkpipe.files.tables import read_table, table_of, write_table
from darkpipe.regular import read_text

if TYPE_CHECKING:  # it takes its time to import
    from astropy.table import Table

ACCEPTED, REJECTED = "accepted", "rejected"
NAN = math.nan


@dataclass(frozen=True)
class RawFrame:
    """An accepted frame of the index, as later steps see it."""

    file: str
    path: Path
    hdu: int
    kind: str
    configuration: str
    camera: str
    exposure_s: float
    temperature_c: float
    set_point_c: float
    rows: int
    cols: int
    pedestal_adu: float
    egain: float
    saturation: float
    maximum: float
    n_low: int
    n_high: int
    divisor: int
    median: float
    sigma: float
    corners: tuple[float, float, float, float]
    date_obs: str
    digest: str = ""

    @property
    def source(self) -> RawSource:
        """Where its pixels are."""
        return self.path


def survey_key(file: str) -> str:
    """The key of a frame's survey, from its name in the index."""
    return xxhash.xxh3_64_hexdigest(os.fsencode(file) if not file.isprintable() else file.encode())


def survey_of(path: Path) -> FrameSurvey:
    """A survey as step 1 wrote it.

    Raises
    ------
    ProductError
        when it is missing or damaged.
    """
    try:
        return FrameSurvey.from_json(read_text(path))
    except OSError as error:
        raise ProductError("the survey of a frame is missing", where=path, do="Run step 1 again.") from error


def index_rows(
    surveys: Sequence[tuple[str, FrameSurvey]], *, expect_filter: str = "", kinds: Collection[str] = CALIBRATION
) -> list[dict[str, Any]]:
    """One row a file, in the order given: what its header and pixels say, and whether it is accepted as one of `kinds`.

    A frame whose pixels all read the same is rejected; so is a file whose pixels are those of an earlier one, as its
    duplicate.
    """
    seen: dict[str, str] = {}
    rows = []
    for file, survey in surveys:
        row = _row(file, survey, kinds)
        if not row["reason"] and expect_filter and survey.info and survey.info.filter_name != expect_filter:
            row["reason"] = f"FILTER is {survey.info.filter_name!r}, not {expect_filter!r}"
        if not row["reason"] and survey.constant:
            row["reason"] = f"constant: all pixels read the same value, {survey.minimum:g}"
        if not row["reason"]:
            first = seen.setdefault(survey.pixel_digest, file)
            if first != file:
                row["reason"] = f"duplicate: same pixels as {first}"
        row["status"] = REJECTED if row["reason"] else ACCEPTED
        rows.append(row)
    campaigns = {r["configuration"] for r in rows if r["status"] == ACCEPTED}
    for row in rows:
        row["campaign"] = row["configuration"] if row["status"] == ACCEPTED and len(campaigns) > 1 else ""
    return rows


SELECTABLE = {
    "gain": "gain_setting",
    "offset": "offset_setting",
    "em_gain": "em_gain",
    "binning": "binning",
    "camera": "camera",
    "readout_mode": "readout_mode",
    "configuration": "configuration",
}
"""What a configuration can be selected by, and the column of the index that holds it."""


def check_selection(select: Iterable[str]) -> None:
    """Refuse what nothing can be selected by.

    Raises
    ------
    SettingsError
        naming the unknown keys and the known ones.
    """
    if unknown := sorted(set(select) - set(SELECTABLE)):
        raise SettingsError(
            f"cannot select by {', '.join(unknown)}", where="select", do="Known: " + ", ".join(SELECTABLE)
        )


def campaign_matches(path: Path, campaign: str, select: Mapping[str, str]) -> bool:
    """Whether a configuration of the index at `path` has all of these values ({'gain': '100', 'binning': '2x2'}).

    Numbers are compared as numbers, texts without regard to case; binning 2 means 2x2. A value that the headers lack
    matches nothing.

    Raises
    ------
    SettingsError
        for a key that is not known.
    ProductError
        when there is no index.
    """
    check_selection(select)
    table = read_index(path)
    for r in table:
        if str(r["status"]) == ACCEPTED and str(r["campaign"]) == campaign:
            return all(same_value(key, r[SELECTABLE[key]], wanted) for key, wanted in select.items())
    return False


def same_value(key: str, value: Any, wanted: str) -> bool:
    """Whether a value of the index is the one that is asked for; `campaign_matches` says how they are compared."""
    if key == "binning" and wanted.strip().isdigit():
        wanted = f"{wanted.strip()}x{wanted.strip()}"
    try:
        return bool(float(value) == float(wanted))
    except ValueError:
        return str(value).casefold() == wanted.strip().casefold()


def _number(value: float | None) -> float:
    return NAN if value is None else float(value)


def _row(file: str, survey: FrameSurvey, kinds: Collection[str]) -> dict[str, Any]:
    info = survey.info
    reason = survey.rejected or ""
    if not reason and info is not None:
        reason = usable_as(info, kinds) or ""
    if not reason and survey.dtype.startswith("float") and not survey.divisor and not survey.constant:
        reason = "fractions in its pixels: a calibrated frame, not a raw one"
    corners = survey.corner_medians_adu or (NAN,) * 4
    return {
        "file": file,
        "status": "",
        "reason": reason,
        "kind": info.kind if info else "",
        "exposure_s": _number(info.exposure_s if info else None),
        "temperature_c": _number(info.temperature_c if info else None),
        "set_point_c": _number(info.set_point_c if info else None),
        "temperature_assumed": bool(info and info.temperature_assumed),
        "kind_assumed": bool(info and info.kind_assumed),
        "configuration": configuration_name(info, survey.rows, survey.cols) if info and survey.rows else "",
        "campaign": "",
        "camera": info.camera if info else "",
        "gain_setting": _number(info.gain_setting if info else None),
        "offset_setting": _number(info.offset_setting if info else None),
        "em_gain": _number(info.em_gain if info else None),
        "binning": f"{info.binning[0]}x{info.binning[1]}" if info else "",
        "readout_mode": info.readout_mode if info else "",
        "rows": survey.rows,
        "cols": survey.cols,
        "hdu": survey.hdu,
        "dtype": survey.dtype,
        "divisor": survey.divisor,
        "constant": survey.constant,
        "pedestal_adu": info.pedestal_adu if info else 0.0,
        "egain_e_per_adu": _number(info.egain_e_per_adu if info else None),
        "saturation_raw": _number(info.saturation_adu if info else None),
        "maximum_raw": survey.maximum,
        "median_raw": survey.median_adu,
        "sigma_raw": survey.sigma_adu,
        "corner_tl_raw": corners[0],
        "corner_tr_raw": corners[1],
        "corner_bl_raw": corners[2],
        "corner_br_raw": corners[3],
        "n_low": survey.n_low,
        "n_high": survey.n_high,
        "date_obs": info.date_obs if info else "",
        "notes": "; ".join(info.notes) if info else "",
        "digest": survey.file_digest,
    }


def write_index(path: Path, rows: Sequence[Mapping[str, Any]], root: str) -> str:
    """Write index.ecsv; `root` is the campaign's folder relative to the output directory. Returns the digest."""
    table = table_of(rows)
    table.meta["root"] = root
    return write_table(path, table)


def read_index(path: Path) -> Table:
    """Read index.ecsv."""
    return read_table(path)


def read_frames(path: Path, campaign: str, kinds: Iterable[str] = ("bias", "dark")) -> list[RawFrame]:
    """The accepted frames of a campaign, of these kinds, in the order of the index."""
    table = read_index(path)
    root = Path(os.path.normpath(path.parent / table.meta["root"]))
    wanted = set(kinds)
    out = []
    for r in table:
        if str(r["status"]) != ACCEPTED or str(r["campaign"]) != campaign or str(r["kind"]) not in wanted:
            continue
        out.append(
            RawFrame(
                str(r["file"]),
                root / str(r["file"]),
                int(r["hdu"]),
                str(r["kind"]),
                str(r["configuration"]),
                str(r["camera"]),
                float(r["exposure_s"]),
                float(r["temperature_c"]),
                float(r["set_point_c"]),
                int(r["rows"]),
                int(r["cols"]),
                float(r["pedestal_adu"]),
                float(r["egain_e_per_adu"]),
                float(r["saturation_raw"]),
                float(r["maximum_raw"]),
                int(r["n_low"]),
                int(r["n_high"]),
                int(r["divisor"]),
                float(r["median_raw"]),
                float(r["sigma_raw"]),
                tuple(float(r[f"corner_{c}_raw"]) for c in ("tl", "tr", "bl", "br")),  # type: ignore[arg-type]
                str(r["date_obs"]),
                str(r["digest"]),
            )
        )
    return out


MOST_LINES = 20
ALIKE = 10  # frames with one reason, from which on they are counted and not listed


def rejection_lines(rows: Iterable[Mapping[str, Any]], table: Path) -> list[str]:
    """What to say of rejected frames (rows with 'file' and 'reason'): the first ones, and where the others stand.
    Many with one reason are one line, so that they do not hide the others."""
    told = [(str(r["file"]), str(r["reason"])) for r in rows if str(r["reason"])]
    counts = Counter(reason for _, reason in told)
    first = {reason: file for file, reason in reversed(told)}
    lines = [f"{n} frames: {why} (the first: {first[why]})" for why, n in counts.most_common() if n >= ALIKE]
    lines += [f"{file}: {reason}" for file, reason in told if counts[reason] < ALIKE]
    more = len(lines) - MOST_LINES
    return lines if more <= 1 else [*lines[:MOST_LINES], f"and {more} more: see {table.name}"]


def campaign_names(path: Path) -> list[str]:
    """Names of the configurations with accepted frames, those with most darks first; [''] for one."""
    if not path.is_file():
        return [""]
    table = read_index(path)
    darks: Counter[str] = Counter()
    for r in table:
        if str(r["status"]) == ACCEPTED:
            darks[str(r["campaign"])] += str(r["kind"]) == "dark"
    return sorted(darks, key=lambda name: (-darks[name], name))
