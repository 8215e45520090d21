"""Honesty of held-out errors on the real STL-1001E set, for each cell and class of signal.

``python benchmarks/heldout_pulls.py`` runs ``full`` with the +10 °C cell kept out of the fit and prints the robust
spread of (prediction - master)/error of every left-out cell over unflagged pixels, both models, the error of the
prediction included. Classes go by the predicted signal. Asked for: 1.00 ± 0.05 below 300 ADU, 1.0 ± 0.1 above, with
three statistical errors of the spread (1.17/√n, of 1.4826 MAD) where pixels are few; exit code 1 if a class misses it.
Classes with fewer than 100 pixels are not judged. ``--output_dir`` keeps the products; with ``--no_run`` an earlier
run's are judged.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import Verdict, print_verdicts
from benchmarks.heldout_real import FITTED_C, HELD_OUT, Cell, Errors, held_out, products

CLASSES = {"below_300": 0.05, "300_to_1000": 0.10, "1000_to_5000": 0.10, "above_5000": 0.10}
FEWEST = 100
ERROR_OF_SPREAD = 1.17  # 1 sigma of 1.4826 MAD of a unit normal, times √n


def spread_of(row: dict[str, float], name: str) -> tuple[float, int]:
    """Spread of the pulls of a class, and how many unflagged pixels it has."""
    return row[f"pull_spread_{name}_unflagged"], int(row[f"n_{name}_unflagged"])


def misses(row: dict[str, float], name: str) -> bool | None:
    """Whether a class of a cell misses its target; None: too few pixels to say."""
    spread, n = spread_of(row, name)
    if n < FEWEST or not np.isfinite(spread):
        return None
    return bool(abs(spread - 1) > CLASSES[name] + 3 * ERROR_OF_SPREAD / np.sqrt(n))


def print_model(model: str, cells: dict[Cell, dict[str, float]]) -> None:
    """A line a cell: spread of each class with its statistical error; '!' misses the target."""
    print(f"\n{model}: spread of held-out pulls +- statistical error (pixels)")
    print(f"{'T [C]':>6} {'t [s]':>6} {'median':>7} " + " ".join(f"{name:>23}" for name in CLASSES))
    for (t_c, t_s), row in sorted(cells.items()):
        parts = []
        for name in CLASSES:
            spread, n = spread_of(row, name)
            mark = {None: "-", True: "!", False: " "}[misses(row, name)]
            known = n >= 10 and np.isfinite(spread)
            text = f"{spread:.3f}+-{ERROR_OF_SPREAD / np.sqrt(n):.3f} ({n})" if known else f"({n})"
            parts.append(f"{text + mark:>23}")
        print(f"{t_c:6.0f} {t_s:6.0f} {row['pull_median_unflagged']:+7.2f} " + " ".join(parts))


def verdicts_of(model: str, cells: dict[Cell, dict[str, float]]) -> list[Verdict]:
    """A class each: the furthest of the judged cells, and how many miss."""
    found = []
    for name, allowed in CLASSES.items():
        judged = {cell: bad for cell, row in cells.items() if (bad := misses(row, name)) is not None}
        if not judged:
            found.append(Verdict(f"{model}, {name}", "no cell"))
            continue
        spreads = {cell: spread_of(cells[cell], name)[0] for cell in judged}
        worst = max(spreads, key=lambda cell: abs(spreads[cell] - 1))
        middle = float(np.median(list(spreads.values())))
        shown = f"{middle:.3f}, {spreads[worst]:.3f} at {worst[0]:g} C {worst[1]:g} s"
        strict = sum(abs(spread - 1) > allowed for spread in spreads.values())
        target = f"1.00 +- {allowed}: {sum(judged.values())} of {len(judged)} miss, {strict} without statistics"
        found.append(Verdict(f"{model}, {name}: median and worst cell", shown, target, not any(judged.values())))
    return found


def fitted(errors: Errors) -> dict[Cell, dict[str, float]]:
    """The cells inside the fitted grid."""
    return {cell: row for cell, row in errors.items() if cell[0] in FITTED_C}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    with products(__doc__.splitlines()[0], arguments) as output_dir:
        ours = {model: fitted(held_out(output_dir, model)) for model in HELD_OUT}
    for model, cells in ours.items():
        print_model(model, cells)
    verdicts = [verdict for model, cells in ours.items() for verdict in verdicts_of(model, cells)]
    return 0 if print_verdicts("held-out pulls, real set, unflagged pixels", verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
