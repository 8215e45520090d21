"""The temperatures of a session, a row a reading, in a file that can be read while it grows and after a crash.

An ECSV table as everywhere: its header is written first, rows are appended. A row that a crash left torn is cut off
when the log is opened again, and is no obstacle to reading.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from astropy.io import ascii as ascii_tables
from astropy.table import MaskedColumn, Table

from hardware.clock import Clock
from hardware.cooler.thermometer import CoolingStatus
from hardware.errors import CaptureError

log = logging.getLogger("darkpipe.capture")

_COLUMNS = (
    ("utc", "string", "", "time of the reading, UTC"),
    ("temperature_c", "float64", "deg_C", "sensor"),
    ("target_c", "float64", "deg_C", "where it shall be in the end"),
    ("set_point_c", "float64", "deg_C", "set point as it read back"),
    ("power_percent", "float64", "%", "power of the cooler"),
    ("cooler_on", "bool", "", "switch of the cooler as it read back"),
    ("stable", "bool", "", "held at the target"),
    ("slope_c_per_min", "float64", "deg_C / min", "drift"),
    ("heat_sink_c", "float64", "deg_C", "heat sink"),
    ("event", "string", "", "what happened"),
)
_NAMES = tuple(name for name, *_ in _COLUMNS)


def _header() -> str:
    lines = ["%ECSV 1.0", "---", "delimiter: ','", "datatype:"]
    for name, kind, unit, description in _COLUMNS:
        of_unit = f"unit: {unit}, " if unit and unit != "%" else "unit: '%', " if unit else ""
        lines.append(f"- {{name: {name}, {of_unit}datatype: {kind}, description: '{description}'}}")
    return "".join(f"# {line}\n" for line in lines) + ",".join(_NAMES) + "\n"


HEADER = _header().encode()


class TemperatureLog:
    """Appends readings and events. Opens the file, or goes on with the one that is there.

    path : of the file; its folder is made. clock : gives the time of events.

    Raises
    ------
    CaptureError
        if the file cannot be written, or is no temperature log.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path, self._clock = Path(path), clock
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            there = self.path.read_bytes() if self.path.exists() else b""
            whole = _whole(there)
            if whole is None:
                raise CaptureError(
                    "this file is no temperature log", where=self.path, do="Move it away, then run again"
                )
            self._stream = open(self.path, "r+b" if there else "wb", buffering=0)  # noqa: SIM115
            if len(whole) < len(HEADER):
                whole = HEADER
                self._stream.write(HEADER)
            elif len(whole) < len(there):
                log.warning("the last row of %s was torn, and is cut off", self.path)
            self._stream.truncate(len(whole))
            self._stream.seek(0, os.SEEK_END)
        except OSError as error:
            raise self._unwritable(error) from error

    def reading(self, status: CoolingStatus, event: str = "") -> None:
        """Append a reading; raises CaptureError if the disk refuses."""
        self._append(
            {name: getattr(status, name) for name in _NAMES if name not in ("utc", "event")}
            | {"utc": _time(status.utc), "event": event}
        )

    def event(self, text: str) -> None:
        """Append what happened now, 'dark 300 s start'; raises as `reading`."""
        self._append({"utc": _time(self._clock.utc()), "stable": None, "event": text})

    def _append(self, row: dict[str, Any]) -> None:
        line = io.StringIO(newline="")
        fields = [_field(row.get(name)) for name in _NAMES]
        csv.writer(line, lineterminator="\n").writerow(fields)
        try:
            self._stream.write(line.getvalue().encode())  # one write a row: a reader never sees half of one
        except (OSError, ValueError) as error:  # a ValueError from a file that is closed
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> CaptureError:
        return CaptureError(
            f"the temperature log cannot be written: {error}", where=self.path, do="Check free space and permissions"
        )

    def close(self) -> None:
        """Bring it to the disk and let it go; may be called twice."""
        if self._stream.closed:
            return
        try:
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            self._stream.close()


def read_temperature_log(path: Path) -> Table:
    """The table of a log, also of one that is being written or was torn; what is not known is masked.

    Raises
    ------
    CaptureError
        if the file cannot be read, or is no temperature log.
    """
    do = "Give the temperature log of a session"
    try:
        whole = _whole(Path(path).read_bytes())
    except OSError as error:
        raise CaptureError(f"the temperature log cannot be read: {error}", where=path, do=do) from error
    if whole is None:
        raise CaptureError("this file is no temperature log", where=path, do=do)
    text = (whole if len(whole) >= len(HEADER) else HEADER).decode("utf-8", errors="replace")
    try:
        table = ascii_tables.read(text, format="ecsv")
    except Exception as error:  # the reader's own errors have no common base
        raise CaptureError(f"the temperature log is damaged: {error}", where=path, do=do) from error
    for name in ("utc", "event"):
        if isinstance(table[name], MaskedColumn):  # ECSV does not tell '' from nothing
            table[name] = table[name].filled("")
    return table


def _whole(content: bytes) -> bytes | None:
    """What there is up to the last whole row; None for a file of another kind. A power cut may leave zeros."""
    if not content.startswith(HEADER):
        return b"" if HEADER.startswith(content.rstrip(b"\0")) else None
    rows = content[len(HEADER) :].split(b"\0", 1)[0]
    while rows:
        rows = rows[: rows.rfind(b"\n") + 1]
        last = rows[rows.rfind(b"\n", 0, -1) + 1 :]
        if not rows or len(next(csv.reader([last.decode("utf-8", errors="replace")]))) == len(_NAMES):
            break
        rows = rows[: len(rows) - len(last)]
    return HEADER + rows


def _time(utc: datetime) -> str:
    return utc.replace(tzinfo=None).isoformat(timespec="milliseconds")


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return " ".join(str(value).split())  # a row is a line
