"""What new frames said of each model before it was fitted again with them: `dark_model/history/checks.ecsv`.

It stands in the archive of replaced models and like that depends on what was there before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xxhash

from darkpipe.errors import ProductError
from darkpipe.files.history import model_digest
from darkpipe.files.index import read_frames
from darkpipe.files.model_check import read_verdict
from darkpipe.files.tables import read_table, table_of, write_table

NAN = math.nan


def note_check(path: Path, verdict: Path, index: Path, description: Path, seen: Path) -> str:
    """Add a check to the table, or replace the same one; returns the digest.

    Parameters
    ----------
    path : the table; its previous version is read. index : of the new frames. description, seen : of the model.
    """
    new = read_frames(index, "")
    old = read_table(seen)
    row = {
        "model": model_digest(description),
        **_dates("model", [str(d) for d in old["date_obs"]]),
        "model_frames": len(old),
        "checked_with": xxhash.xxh3_64_hexdigest("\n".join(sorted(f.digest for f in new)).encode())[:8],
        **_dates("frames", [f.date_obs for f in new]),
        "darks": sum(f.kind == "dark" for f in new),
        "biases": sum(f.kind == "bias" for f in new),
        **_found(read_verdict(verdict)),
    }
    same = (row["model"], row["checked_with"])
    rows = [r for r in _rows(path) if (r["model"], r["checked_with"]) != same]
    return write_table(path, table_of([*rows, row]))


def _dates(what: str, dates: Sequence[str]) -> dict[str, str]:
    """First and last day, '' where no header has one."""
    days = sorted(d[:10] for d in dates if d)
    return {f"{what}_from": days[0] if days else "", f"{what}_to": days[-1] if days else ""}


def _found(verdict: Mapping[str, Any]) -> dict[str, Any]:
    def pair(name: str, found: Mapping[str, Any]) -> dict[str, float]:
        value, error = (NAN if found[key] is None else float(found[key]) for key in ("value", "error"))
        return {name: value, f"{name}_error": error}

    pedestal = next(c for c in verdict["criteria"] if str(c["name"]).startswith("pedestal"))
    hot = verdict["hot_pixels"]
    ratios = {"rate_ratio": "all", "bulk_ratio": "bulk", "hot_ratio": "hot"}
    return {
        "verdict": verdict["verdict"],
        **{k: v for name, of in ratios.items() for k, v in pair(name, verdict["rate_ratio"][of]).items()},
        **pair("pedestal_adu", pedestal),
        **{f"{kind}_hot": int(hot[kind]) for kind in ("new", "vanished", "unconfirmed")},
        "compared": int(hot["compared"]),
        "cells": " ".join(verdict["cells"]),
        "outside_the_model": " ".join(verdict["outside_the_model"]),
        "extrapolated": " ".join(verdict.get("extrapolated", [])),
    }


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        table = read_table(path)
        return [dict(zip(table.colnames, r.values(), strict=True)) for r in table if r["model"] and r["checked_with"]]
    except (ProductError, KeyError):
        return []


def last_check(path: Path) -> list[str]:
    """What the last check found, in a line; none where there was none."""
    try:
        return [_line(r) for r in _rows(path)[-1:]]
    except (KeyError, ValueError):
        return []


def _line(row: Mapping[str, Any]) -> str:
    of_model = f"{row['model']}, of {_days(row, 'model')}" if row["model_to"] else f"{row['model']}"
    frames = f"{int(row['darks'])} new darks and {int(row['biases'])} biases"
    return (
        f"{frames}{' of ' + _days(row, 'frames') if row['frames_to'] else ''} found the model before ({of_model}) "
        f"{row['verdict']}: dark rate now / model {_pair(row, 'rate_ratio')} (bulk {_pair(row, 'bulk_ratio')}, "
        f"hot {_pair(row, 'hot_ratio')}), pedestal {_pair(row, 'pedestal_adu')} ADU, hot pixels: "
        f"{int(row['new_hot'])} new, {int(row['vanished_hot'])} vanished"
    )


def _days(row: Mapping[str, Any], what: str) -> str:
    first, last = str(row[f"{what}_from"]), str(row[f"{what}_to"])
    return first if first == last else f"{first} to {last}"


def _pair(row: Mapping[str, Any], name: str) -> str:
    value, error = float(row[name]), float(row[f"{name}_error"])
    return f"{value:.4g} +- {error:.2g}" if math.isfinite(value) and error < 1e3 else "not measured"
