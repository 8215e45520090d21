"""Rows of an index as later steps see them, without files."""

from __future__ import annotations

import math
from pathlib import Path

from darkpipe.files.index import RawFrame

_DEFAULTS = {
    "hdu": 0,
    "kind": "dark",
    "configuration": "camera",
    "camera": "Camera",
    "exposure_s": 60.0,
    "temperature_c": -10.0,
    "set_point_c": -10.0,
    "rows": 16,
    "cols": 16,
    "pedestal_adu": 0.0,
    "egain": math.nan,
    "saturation": math.nan,
    "maximum": 5000.0,
    "n_low": 0,
    "n_high": 0,
    "divisor": 1,
    "median": 1000.0,
    "sigma": 4.0,
    "date_obs": "",
}


def made_frame(file: str, **values: object) -> RawFrame:
    """An accepted dark of -10 °C and 60 s; its corners read what its median reads unless they are given."""
    fields = {**_DEFAULTS, **values}
    fields.setdefault("corners", (fields["median"],) * 4)
    return RawFrame(file=file, path=Path("raw") / file, **fields)  # type: ignore[arg-type]
