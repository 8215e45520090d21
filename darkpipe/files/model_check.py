"""The result of a check on disk: the table of cells, the verdict with its criteria, and both read back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.table import Table

from darkpipe import plain_yaml
from darkpipe.errors import ProductError
from darkpipe.files.atomic import replace_text
from darkpipe.files.changed_pixels import Found
from darkpipe.files.tables import table_of
from darkpipe.regular import read_text
from darkpipe.science.ageing import CellOfCheck, Change, Shared, cell_ratio
from darkpipe.science.verdict import Criterion, Limits, worst

PERCENT = 100.0


def cell_table(
    rows: Sequence[Mapping[str, Any]], cells: Sequence[CellOfCheck], change: Change, shared: Shared
) -> Table:
    """One row a cell: ratios with errors, level, pulls."""
    out = []
    for row, cell in zip(rows, cells, strict=True):
        c = cell.change
        ratio = cell_ratio(cell, change, shared)
        bulk_rate = change.bulk[0] - 1.0 if math.isfinite(change.bulk[0]) else 0.0
        out.append(
            {
                "cell": row["cell"]["name"],
                "model": row["model"],
                "temperature_c": cell.temperature_c,
                "exposure_s": row["cell"]["exposure_s"],
                "n_frames": cell.frames,
                "n_bulk": c.n_bulk,
                "n_hot": c.n_hot,
                "bulk_signal_adu": c.bulk_signal_adu,
                "hot_signal_adu": c.hot_signal_adu,
                "difference_adu": c.difference_adu,
                "bulk_ratio": ratio["bulk"][0],
                "bulk_ratio_error": ratio["bulk"][1],
                "hot_ratio": ratio["hot"][0],
                "hot_ratio_error": ratio["hot"][1],
                "level_adu": c.difference_adu - bulk_rate * c.bulk_signal_adu,
                "level_error_adu": math.hypot(
                    c.difference_error_adu, shared.drift_adu / math.sqrt(max(cell.frames, 1))
                ),
                "pull_spread": c.bulk_spread,
                "pull_spread_hot": c.hot_spread,
                "chi2_reduced": c.chi2_reduced,
                "chi2_uncorrected": c.chi2_uncorrected,
                "extrapolated": row["extrapolated"],
                "bulk_law_error": cell.bulk_law,
                "hot_law_error": cell.hot_law,
            }
        )
    return table_of(out)


def criteria_of(
    change: Change,
    pedestal: tuple[float, float],
    found: Found,
    cells: Sequence[CellOfCheck],
    read_noise_adu: float,
    limits: Mapping[str, Sequence[float]],
) -> list[Criterion]:
    """What the verdict is made of. `limits`: (drifted, stale) of 'rate', 'pedestal_noises', 'hot_fraction', 'pulls'."""
    rate, pixels, pulls = (Limits(*limits[name]) for name in ("rate", "hot_fraction", "pulls"))
    noises = Limits(*(read_noise_adu * v for v in limits["pedestal_noises"]))
    changed = found.counts["new"] + found.counts["vanished"]
    n = max(found.compared, 1)
    spreads = [c.change.bulk_spread for c in cells if math.isfinite(c.change.bulk_spread)]
    scatter = float(np.std(spreads)) / math.sqrt(len(spreads)) if len(spreads) > 1 else 0.0
    return [
        Criterion("rate of bulk pixels, now / model", *change.bulk, 1.0, rate),
        Criterion("rate of hot pixels, now / model", *change.hot, 1.0, rate),
        Criterion("pedestal, now - model", *pedestal, 0.0, noises, "ADU"),
        Criterion("hot pixels new or vanished", PERCENT * changed / n, PERCENT * math.sqrt(changed) / n, 0.0,
                  Limits(PERCENT * pixels.drifted, PERCENT * pixels.stale), "%"),
        Criterion("spread of the pulls", float(np.median(spreads)) if spreads else math.nan, scatter, 1.0, pulls),
    ]  # fmt: skip


def verdict_data(
    criteria: Sequence[Criterion],
    significance: float,
    change: Change,
    level_error: tuple[float, float],
    found: Found,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Content of the verdict file; plain data, rounded."""
    rows = [
        {
            "name": c.name,
            "value": c.value,
            "error": c.error,
            "unit": c.unit,
            "drifted_beyond": c.limits.drifted,
            "stale_beyond": c.limits.stale,
            "verdict": c.verdict(significance),
            "blind": c.verdict(significance) == "current" and c.blind(significance),
        }
        for c in criteria
    ]
    verdict = worst([c.verdict(significance) for c in criteria])
    data = {
        "verdict": verdict,
        "why": [_sentence(r) for r in rows if r["verdict"] != "current"],
        **about,
        "rate_ratio": {name: dict(zip(("value", "error"), getattr(change, part), strict=True))
                       for name, part in (("all", "rate"), ("bulk", "bulk"), ("hot", "hot"))},
        "level_adu": dict(zip(("value", "error"), level_error, strict=True)),
        "chi2": change.chi2,
        "degrees_of_freedom": change.dof,
        "hot_pixels": {
            **found.counts,
            "compared": found.compared,
            "reference_cell": found.reference_cell,
            "hot_above_adu": found.hot_above_adu,
            "detectable_adu": found.detectable_adu,
        },
        "criteria": rows,
    }  # fmt: skip
    rounded: dict[str, Any] = _plain(data)
    return rounded


def _sentence(row: Mapping[str, Any]) -> str:
    limit = row["stale_beyond"] if row["verdict"] == "stale" else row["drifted_beyond"]
    unit = f" {row['unit']}" if row["unit"] else ""
    return f"{row['name']}: {row['value']:.4g} ± {row['error']:.2g}{unit} ({row['verdict']} beyond {limit:.4g}{unit})"


def _plain(value: Any) -> Any:
    """Numbers of six digits, None where they are not finite."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def write_verdict(path: Path, data: Mapping[str, Any]) -> str:
    """Write the verdict as YAML; returns its digest."""
    return replace_text(path, yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=110))


def read_verdict(path: Path) -> dict[str, Any]:
    """The verdict as it was written.

    Raises
    ------
    ProductError
        when it is missing or damaged.
    """
    try:
        data = plain_yaml.load(read_text(path))
        if data["verdict"] and data["criteria"] and data["hot_pixels"]:
            return dict(data)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ProductError(f"the verdict cannot be read ({error})", where=path, do="run check_model again") from error
    raise ProductError("the verdict is empty", where=path, do="run check_model again")
