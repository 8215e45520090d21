"""Whether a planned campaign keeps its word: predicted errors of darks against those of campaigns that are then made.

``python benchmarks/plan_campaign.py`` gives `plan_campaign` the sensor of a simulated campaign in plain numbers (read
noise, gain, dark current and doubling temperature of a typical bulk and hot pixel), makes the campaign, runs the
pipeline on it, and compares the predicted error with the rms error over pixels of darks at the cells, between them and
beyond: ratios predicted / actual, 1 being right. ``--model_dir`` in the second column: the same prediction from the
fitted model instead. Errors that all pixels share show in several campaigns only: there the rms is over campaigns, too.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.table import Table
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from simulated import PRESETS, Recipe, Sensor, write_campaign

from benchmarks.common import Verdict, print_verdicts, run_pipeline
from benchmarks.judging import MODEL_OF_LAW, find_synthetic, read_map

Array = NDArray[np.float64]
Found = dict[tuple[str, bool], list[Array]]

SENSOR: dict[str, Any] = {"rows": 96, "cols": 96, "hot_fraction": 0.04, "hot_decades": (1.25, 1.35)}
SMALL: dict[str, Any] = {"temperatures_c": (-10.0, -5.0, 0.0), "exposures_s": (30.0, 90.0, 300.0)}
CASES: dict[str, dict[str, Any]] = {
    "5 x 5 cells of 8": {},
    "3 x 3 cells of 5": {**SMALL, "n_darks": 5},
    "3 x 3 cells of 5, 3 biases": {**SMALL, "n_darks": 5, "n_biases": 3},
    "3 x 3 cells of 5, faint": {**SMALL, "n_darks": 5, "bulk_rate_adu_s": 0.06},
    "3 x 3 cells of 5, no biases": {**SMALL, "n_darks": 5, "n_biases": 0},
}
SHARED: dict[str, dict[str, Any]] = {
    "set points off by 0.1 K": {**SMALL, "n_darks": 5, "set_point_error_k": 0.1},
    "pedestal drifts by 1 ADU": {**SMALL, "n_darks": 5, "pedestal_drift_adu": 1.0},
}
ALLOWED = 0.10  # of a ratio's median from 1


def typical(sensor: Sensor, chosen: NDArray[np.bool_]) -> tuple[float, float]:
    """Dark current at 0 °C [e-/s] and the rise of temperature that doubles it [°C], medians over pixels."""
    low, middle, high = (float(np.median(sensor.signal_adu(t, 1.0)[chosen])) for t in (-0.5, 0.0, 0.5))
    return middle * sensor.recipe.gain_e_per_adu, float(np.log(2.0) / np.log(high / low))


def plan_of(sensor: Sensor) -> dict[str, Any]:
    """The campaign and its sensor as the settings of `plan_campaign`."""
    r = sensor.recipe
    (bulk, bulk_doubling), (hot, hot_doubling) = typical(sensor, ~sensor.hot), typical(sensor, sensor.hot)
    return {
        "temperatures_c": list(r.temperatures_c),
        "exposures_s": list(r.exposures_s),
        "frames": r.n_darks,
        "biases": r.n_biases,
        "read_noise_e": float(np.hypot(r.read_noise_e, r.gain_e_per_adu / np.sqrt(12.0))),
        "gain_e_per_adu": r.gain_e_per_adu,
        "bulk_e_s": bulk,
        "bulk_doubling_c": bulk_doubling,
        "hot_e_s": hot,
        "hot_doubling_c": hot_doubling,
        "temperature_error_c": r.set_point_error_k,
        "pedestal_drift_adu": r.pedestal_drift_adu,
        "relative_error": 0.0,
        "model": MODEL_OF_LAW[r.law],
    }


def predictions(folder: Path, *flags: object) -> Table:
    """Run `plan_campaign`."""
    run_pipeline("--mode", "plan_campaign", "--output_dir", folder, *flags)
    return Table.read(folder / "campaign_plan" / "predicted_errors.ecsv", format="ascii.ecsv")


def compare(recipe: Recipe, folder: Path, *, with_model: bool) -> tuple[Found, Found]:
    """Of each point predicted error, rms error and stated error, by kind of pixel and whether it is inside: from the
    settings, and from the model that the campaign made."""
    sensor = write_campaign(folder / "raw", recipe)
    settings = folder / "plan.yaml"
    settings.write_text(yaml.safe_dump({"plan_campaign": plan_of(sensor)}))
    planned = predictions(folder / "plan", "--config", settings)
    out = folder / "out"
    model = MODEL_OF_LAW[recipe.law]
    run_pipeline("--mode", "fit_2d_model", "--basepath", folder / "raw", "--output_dir", out)
    temperatures, exposures = (sorted(set(planned[c])) for c in ("temperature_c", "exposure_s"))
    lists = ("--temps", " ".join(map(str, temperatures)), "--exptimes", " ".join(map(str, exposures)))
    run_pipeline("--mode", "synthetic_2d", "--output_dir", out, "--model", model, *lists)
    by_settings = measured(sensor, out, planned)
    if not with_model:
        return by_settings, {}
    flags = ("--model_dir", out, "--model", model)
    return by_settings, measured(sensor, out, predictions(folder / "plan2", *flags))


def measured(sensor: Sensor, out: Path, planned: Table) -> Found:
    """(predicted, mean square error, mean stated variance) of each point of the table."""
    found: Found = {}
    darks: dict[tuple[float, float], tuple[Array, Array]] = {}
    for row in planned:
        point = float(row["temperature_c"]), float(row["exposure_s"])
        if point not in darks:
            value, error, _ = read_map(find_synthetic(out / "synthetic", *point))
            darks[point] = value - sensor.signal_adu(*point), error
        off, error = darks[point]
        chosen = (sensor.hot if row["pixel"] == "hot" else ~sensor.hot) & np.isfinite(off)
        square, stated = float(np.mean(off[chosen] ** 2)), float(np.mean(error[chosen] ** 2))
        found.setdefault((str(row["pixel"]), bool(row["inside"])), []).append(
            np.array([float(row["error_adu"]), square, stated])
        )
    return found


def verdicts_of(found: Sequence[Found], judged: bool) -> list[Verdict]:
    """Ratios predicted / actual over points, of one campaign or the mean square of several."""
    verdicts = []
    for kind, inside in sorted(found[0], key=lambda k: (not k[1], k[0])):
        predicted, square, stated = np.mean([np.array(f[kind, inside]) for f in found], axis=0).T
        ratio, said = predicted / np.sqrt(square), predicted / np.sqrt(stated)
        low, middle, high = np.nanpercentile(ratio, [0, 50, 100])
        shown = f"{middle:.2f} ({low:.2f} to {high:.2f}; of the stated errors {np.nanmedian(said):.2f})"
        ok = bool(abs(middle - 1) <= ALLOWED) if judged and inside else None
        where = "inside" if inside else "beyond"
        verdicts.append(Verdict(f"{kind}, {where}", shown, f"1.0 +- {ALLOWED}" if ok is not None else "", ok))
    return verdicts


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--law", choices=sorted(MODEL_OF_LAW), action="append", help="default: both")
    parser.add_argument("--cases", nargs="*", choices=[*CASES, *SHARED], metavar="NAME", help="default: all")
    parser.add_argument("--campaigns", type=int, default=8, help="of each case with errors that pixels share")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    passed = True
    for name in options.cases or [*CASES, *SHARED]:
        for law in options.law or sorted(MODEL_OF_LAW):
            seeds = range(options.seed, options.seed + (options.campaigns if name in SHARED else 1))
            given, by_model = [], []
            for seed in seeds:
                changes = {**SENSOR, **(CASES | SHARED)[name], "law": law, "seed": seed}
                with tempfile.TemporaryDirectory() as folder:
                    recipe = dataclasses.replace(PRESETS["default"], **changes)
                    found, again = compare(recipe, Path(folder), with_model=name in CASES)
                given.append(found)
                by_model += [again] if again else []
            passed &= print_verdicts(f"{name}, law {law}: predicted / actual rms error", verdicts_of(given, True))
            if by_model:
                print_verdicts("  the same, predicted from the fitted model", verdicts_of(by_model, False))
            sys.stdout.flush()
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
