"""Temperature logs of the sessions in which the frames of a campaign were taken here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from astropy.table import Table

from darkpipe.errors import ProductError
from darkpipe.files.layout import SAFE_NAME, RawDir
from darkpipe.files.tables import read_table


def temperature_logs(frames: Iterable[Path]) -> list[Path]:
    """The logs that lie beside the frames, the oldest session first; none where another program took them.

    frames : paths of raw frames. A folder around one of them that holds the journal of a capture is such a place.
    """
    folders = {folder for frame in frames for folder in list(Path(os.path.abspath(frame)).parents)[:3]}
    found: list[Path] = []
    for folder in sorted(folders):
        raw = RawDir(folder)
        if raw.journal.is_file():
            found += [log for stamp in _stamps(raw.journal) if (log := raw.temperature_log(stamp)).is_file()]
    return list(dict.fromkeys(found))


def _stamps(journal: Path) -> list[str]:
    """Of the sessions, in their order; lines that a crash tore are passed over."""
    stamps = []
    for line in journal.read_text(encoding="utf-8", errors="replace").splitlines():
        if '"session"' not in line:
            continue
        try:
            entry: Any = json.loads(line)
        except (ValueError, RecursionError):
            continue
        stamp = entry.get("stamp") if isinstance(entry, dict) and "session" in entry else None
        if isinstance(stamp, str) and SAFE_NAME.fullmatch(stamp):  # it becomes a part of a path
            stamps.append(stamp)
    return list(dict.fromkeys(stamps))


def read_log(path: Path) -> Table | None:
    """A temperature log with a reading in it; None for one that is empty, torn or damaged."""
    try:
        table = read_table(path)
    except ProductError:
        return None
    if "temperature_c" not in table.colnames or table["temperature_c"].dtype.kind not in "if":
        return None
    readings = [float(v) for v in table["temperature_c"].tolist() if v is not None]
    return table if any(v == v for v in readings) else None
