"""Held-out errors on the real STL-1001E set, cell by cell, against the reference figures beside the frames.

``python benchmarks/heldout_real.py`` runs ``full`` with the +10 °C cell kept out of the fit (as the reference did) and
compares the mean absolute error of every left-out cell; exit code 1 if a cell is worse by more than 3 % or the sum is
worse. ``--output_dir`` keeps the products; with ``--no_run`` an earlier run's are compared.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml
from astropy.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import Verdict, print_verdicts, real_data, run_pipeline

SET = "stl1001e_sbu_dev"
HELD_OUT = {"exp_2d": "dark_model/held_out.ecsv", "two_component": "dark_model/two_component/held_out.ecsv"}
LARGEST_RATIO = 1.03
PIXELS = 512 * 512
FITTED_C = (-10.0, -5.0, 0.0)
Cell = tuple[float, float]
Errors = dict[Cell, dict[str, float]]


def reference(path: Path) -> Errors:
    """Reference figures by (set temperature, exposure): noise_floor, exp_2d, two_component, nearest_scaled, ADU."""
    table = Table.read(path, format="ascii.csv", comment="#")
    names = [name for name in table.colnames if name not in ("set_temp_c", "exposure_s")]
    return {
        (float(row["set_temp_c"]), float(row["exposure_s"])): {
            name: np.nan if np.ma.is_masked(row[name]) else float(row[name]) for name in names
        }
        for row in table
    }


def held_out(output_dir: Path, model: str) -> Errors:
    """A model's held-out errors of a finished run, by (temperature, exposure)."""
    table = Table.read(output_dir / HELD_OUT[model], format="ascii.ecsv")
    numbers = [name for name in table.colnames if table[name].dtype.kind in "fiu"]
    return {
        (round(float(row["temperature_c"]), 1), round(float(row["exposure_s"]), 3)): {
            name: float(row[name]) if not np.ma.is_masked(row[name]) else np.nan for name in numbers
        }
        for row in table
    }


def run_full(output_dir: Path, frames: Path, settings: Path) -> float:
    """``full`` with the cells at +10 °C kept out of the fit, which the file settings (written here) says; seconds."""
    settings.write_text(yaml.safe_dump({"fit_dark_model": {"exclude_temperatures_c": [10.0]}}))
    arguments = ("--mode", "full", "--basepath", frames, "--output_dir", output_dir, "--config", settings)
    return run_pipeline(*arguments).seconds


def judge_model(model: str, ours: Errors, expected: Errors) -> list[Verdict]:
    """Ratios to the reference over the cells that were fitted."""
    cells = [cell for cell in expected if cell[0] in FITTED_C]
    missing = [cell for cell in cells if not np.isfinite(ours.get(cell, {}).get("mae_adu", np.nan))]
    mae = np.array([ours[c]["mae_adu"] for c in cells if c not in missing])
    bar = np.array([expected[c][model] for c in cells if c not in missing])
    floor = np.array([expected[c]["noise_floor"] for c in cells if c not in missing])
    worst = int(np.argmax(mae / bar)) if mae.size else 0
    name = [c for c in cells if c not in missing][worst] if mae.size else "none"
    ratio = float(mae[worst] / bar[worst]) if mae.size else np.nan
    counts = {int(ours[c]["n_pixels"]) for c in cells if c not in missing and "n_pixels" in ours[c]}
    shown = ", ".join(map(str, sorted(counts)))
    return [
        Verdict(f"{model}: pixels counted in each cell", shown, str(PIXELS), counts == {PIXELS} if counts else None),
        Verdict(f"{model}: cells compared", f"{len(mae)} of {len(cells)}", "all", not missing),
        Verdict(f"{model}: sum of MAE [ADU]", f"{mae.sum():.2f}", f"<= {bar.sum():.2f}", bool(mae.sum() <= bar.sum())),
        Verdict(f"{model}: worst cell {name}", f"{ratio:.3f}", f"<= {LARGEST_RATIO}", ratio <= LARGEST_RATIO),
        Verdict(f"{model}: mean MAE / noise floor", f"{(mae / floor).mean():.3f}", f"(ref {(bar / floor).mean():.3f})"),
    ]


def judge_choice(chosen: str, ours: dict[str, Errors]) -> list[Verdict]:
    """Whether auto took the model with the smaller mean of (error / noise floor) over cells, of unflagged pixels."""
    scores = {
        model: float(np.nanmean([r["mae_unflagged_adu"] / r["noise_floor_unflagged_adu"] for r in values.values()]))
        for model, values in ours.items()
    }
    best = min(scores, key=lambda m: scores[m])
    shown = [Verdict(f"{m}: mean of unflagged MAE / floor", f"{score:.4f}") for m, score in scores.items()]
    return [*shown, Verdict("auto takes", chosen, best, chosen == best)]


def print_cells(ours: dict[str, Errors], expected: Errors) -> None:
    """Cell by cell: measured, ratio to the reference, gap to the noise floor."""
    print(f"{'T [C]':>6} {'t [s]':>6} {'n':>3} {'floor':>7} {'nearest':>8}", end="")
    for model in ours:
        print(f" | {model:>13} {'ratio':>6} {'/floor':>6} {'pull':>5}", end="")
    print()
    for cell, row in expected.items():
        nearest = row["nearest_scaled"]
        print(f"{cell[0]:6.0f} {cell[1]:6.0f} {row['n_frames']:3.0f} {row['noise_floor']:7.2f} {nearest:8.2f}", end="")
        for model, values in ours.items():
            got = values.get(cell, {})
            mae = got.get("mae_adu", np.nan)
            ratio, gap, pull = mae / row[model], mae / row["noise_floor"], got.get("pull_spread", np.nan)
            print(f" | {mae:13.3f} {ratio:6.3f} {gap:6.2f} {pull:5.2f}", end="")
        print()


def print_classes(ours: dict[str, Errors]) -> None:
    """Mean over the fitted cells of the error by signal class, where the table has the classes."""
    for model, values in ours.items():
        chosen = [row for cell, row in values.items() if cell[0] in FITTED_C]
        names = [name for name in chosen[0] if name.startswith("mae_") and name != "mae_adu"] if chosen else []
        known = {name: [row[name] for row in chosen if np.isfinite(row[name])] for name in names}
        parts = [f"{name[4:]} {np.mean(numbers):.2f}" for name, numbers in known.items() if numbers]
        if parts:
            print(f"{model}, mean over cells [ADU]: {', '.join(parts)}")


@contextmanager
def products(description: str, arguments: Sequence[str] | None) -> Iterator[Path]:
    """The output directory of a run on the real set, made now or kept from before, as the command line says."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output_dir", type=Path, help="keep the products here")
    parser.add_argument("--no_run", action="store_true", help="take the products that are there")
    options = parser.parse_args(arguments)
    if options.no_run and options.output_dir is None:
        parser.error("--no_run needs --output_dir")
    with tempfile.TemporaryDirectory() as temporary:
        output_dir = options.output_dir or Path(temporary) / "out"
        if not options.no_run:
            print(f"full: {run_full(output_dir, real_data() / SET, Path(temporary) / 'settings.yaml'):.1f} s")
        yield output_dir


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    expected = reference(real_data() / "reference_held_out_errors.csv")
    with products(__doc__.splitlines()[0], arguments) as output_dir:
        ours = {model: held_out(output_dir, model) for model in HELD_OUT}
        chosen = output_dir / "dark_model" / "model.yaml"
        said = yaml.safe_load(chosen.read_text()) if chosen.exists() else {}
    print_cells(ours, expected)
    print_classes(ours)
    verdicts = [verdict for model in HELD_OUT for verdict in judge_model(model, ours[model], expected)]
    verdicts += judge_choice(str(said.get("chosen", "")), ours)
    return 0 if print_verdicts("held out, real set", verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
