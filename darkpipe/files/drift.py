"""The drift of the pedestal, and what a black clamp leaves, from the tables of frames."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from astropy.table import Table

from darkpipe.files.ageing import scatter_of_levels
from darkpipe.files.clamp import clamp_sigma_adu
from darkpipe.files.index import ACCEPTED
from darkpipe.files.tables import read_table


def drift_of(corrected: Path, bias_frames: Path, scale_factor: float) -> dict[str, Any]:
    """Plain data of `Drift`, from the tables of frames; of a camera with a black clamp, what that leaves. One digit, so
    that a frame more does not stir every job."""
    return drift_in(read_table(corrected), read_table(bias_frames) if bias_frames.is_file() else None, scale_factor)


def drift_in(corrected: Table, bias_frames: Table | None, scale_factor: float) -> dict[str, Any]:
    """The same of tables in memory; None: there are no bias frames."""
    rows = () if bias_frames is None else bias_frames
    frames = Counter(str(r["bias"]) for r in rows if str(r["status"]) == ACCEPTED)
    sigma = max(scatter_of_levels(corrected, bias_frames, scale_factor), clamp_sigma_adu(corrected.meta))
    return {"frame_adu": float(f"{sigma:.1g}"), "bias_frames": dict(sorted(frames.items()))}
