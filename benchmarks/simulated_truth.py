"""The pipeline against simulated truth: pulls of the maps, error of an unseen dark, bias at low signal.

``python benchmarks/simulated_truth.py`` makes a campaign of each law with the tests' generator, runs the pipeline on
it and prints each figure beside its target; exit code 1 if one is missed. ``judge`` does it for any recipe.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from simulated import PRESETS, Recipe, Sensor, write_campaign

from benchmarks.common import Verdict, print_verdicts, robust_spread, run_pipeline
from benchmarks.crb import expected_mae, prediction_sigma

Array = NDArray[np.float64]
Points = Sequence[tuple[float, float]]

UNSEEN = ((-7.5, 100.0), (-2.5, 200.0))  # °C, s: not in the campaign
FAINT = ((-17.5, 20.0), (-12.5, 100.0), (-7.5, 45.0))  # inside the grid, most pixels below 20 ADU
MODEL_OF_LAW = {"exponential": "exp_2d", "physics": "two_component"}
MAP_FILES = {"A": "dark_A_map.fits", "B": "dark_B_map.fits", "gamma": "dark_gamma_map.fits"}


def read_map(path: Path) -> tuple[Array, Array, NDArray[np.uint16]]:
    """Value, 1 sigma and status of a product."""
    with fits.open(path) as hdus:
        return (
            np.asarray(hdus["SCI"].data, dtype=np.float64),
            np.asarray(hdus["ERR"].data, dtype=np.float64),
            np.asarray(hdus["DQ"].data).astype(np.uint16),
        )


def brightest_signal(sensor: Sensor) -> Array:
    """True signal (rows, cols) in the brightest cell of the campaign, ADU."""
    return sensor.signal_adu(max(sensor.recipe.temperatures_c), max(sensor.recipe.exposures_s))


def pulls(sensor: Sensor, model_dir: Path) -> dict[str, Array]:
    """(value - truth)/error of A, B, gamma, each (rows, cols), NaN where the pipeline gives no value."""
    result = {}
    for name, file in MAP_FILES.items():
        value, error, _ = read_map(model_dir / file)
        with np.errstate(invalid="ignore", divide="ignore"):
            result[name] = (value - sensor.maps[name]) / error
    return result


def pull_verdicts(sensor: Sensor, model_dir: Path) -> list[Verdict]:
    """Robust spread of the pulls above 10 read noises in the brightest cell; by signal class for the curious."""
    read_noise = sensor.recipe.read_noise_e / sensor.recipe.gain_e_per_adu
    level = brightest_signal(sensor) / read_noise
    verdicts = []
    for name, pull in pulls(sensor, model_dir).items():
        chosen = pull[(level > 10) & ~sensor.telegraph]
        spread = robust_spread(chosen)
        ok = abs(spread - 1) <= 0.05
        verdicts.append(Verdict(f"pull spread {name}", f"{spread:.3f}", "1.00 +- 0.05", ok))
        verdicts.append(Verdict(f"  median pull {name}", f"{np.nanmedian(chosen):+.3f}"))
        edges = (10, 30, 100, 1000, np.inf)
        by_class = [robust_spread(pull[(level > a) & (level <= b)]) for a, b in pairwise(edges)]
        verdicts.append(Verdict("  to 30, 100, 1000, more R", " ".join(f"{s:.2f}" for s in by_class)))
        lost = float(np.mean(~np.isfinite(chosen)))
        verdicts.append(Verdict("  without a value", f"{lost:.3%}", "", None))
    return verdicts


def synthesise(output_dir: Path, model: str, temperature_c: float, exposure_s: float) -> tuple[Array, Array]:
    """Synthetic dark and its 1 sigma from the pipeline's command line, ADU."""
    file = output_dir / f"benchmark_{model}_{temperature_c:+.1f}C_{exposure_s:g}s.fits"
    point = ("--temp_single", temperature_c, "--exptime_single", exposure_s)
    run_pipeline(
        "--mode", "synthetic_2d_single", "--output_dir", output_dir, "--model", model, *point, "--output", file
    )
    value, error, _ = read_map(file)
    return value, error


def prediction_verdicts(sensor: Sensor, output_dir: Path, model: str, points: Points = UNSEEN) -> list[Verdict]:
    """Mean absolute error of unseen darks against the Cramér–Rao expectation over the same pixels."""
    verdicts = []
    for temperature_c, exposure_s in points:
        value, error = synthesise(output_dir, model, temperature_c, exposure_s)
        truth = sensor.signal_adu(temperature_c, exposure_s)
        sigma = prediction_sigma(sensor, temperature_c, exposure_s)
        known = np.isfinite(value) & np.isfinite(sigma) & ~sensor.telegraph
        mae, expected = float(np.abs(value - truth)[known].mean()), expected_mae(sigma[known])
        where = f"{model} {temperature_c:g} C, {exposure_s:g} s"
        verdicts.append(Verdict(f"MAE/CRB {where}", f"{mae / expected:.3f}", "<= 1.05", mae <= 1.05 * expected))
        verdicts.append(Verdict("  MAE, expectation [ADU]", f"{mae:.3f} {expected:.3f}"))
        bulk = known & ~sensor.hot
        ratio = float(np.abs(value - truth)[bulk].mean()) / expected_mae(sigma[bulk])
        verdicts.append(Verdict("  bulk pixels alone", f"{ratio:.3f}"))
        verdicts.append(Verdict("  pull spread", f"{robust_spread(((value - truth) / error)[known]):.3f}"))
        lost = np.isfinite(sigma) & ~np.isfinite(value) & ~sensor.telegraph
        verdicts.append(Verdict("  pixels without a value", f"{int(lost.sum())} of {lost.size}"))
    return verdicts


def faint_verdicts(sensor: Sensor, output_dir: Path, model: str, points: Points = FAINT) -> list[Verdict]:
    """Mean of (synthetic - truth) over pixels whose true signal is below 20 ADU."""
    verdicts = []
    for temperature_c, exposure_s in points:
        value, _ = synthesise(output_dir, model, temperature_c, exposure_s)
        truth = sensor.signal_adu(temperature_c, exposure_s)
        faint = (truth < 20) & np.isfinite(value) & ~sensor.telegraph
        bias = float((value - truth)[faint].mean()) if faint.any() else float("nan")
        what = f"bias {model} {temperature_c:g} C, {exposure_s:g} s ({faint.mean():.0%})"
        verdicts.append(Verdict(what, f"{bias:+.4f}", "|.| <= 0.1 ADU", abs(bias) <= 0.1))
    return verdicts


def judge(recipe: Recipe, folder: Path, *, unseen: Points = UNSEEN, faint: Points = FAINT) -> list[Verdict]:
    """Make the campaign under folder, run the pipeline's ``full`` on it, and compare with the truth."""
    model = MODEL_OF_LAW[recipe.law]
    sensor = write_campaign(folder / "raw", recipe)
    output_dir = folder / "out"
    run = run_pipeline("--mode", "full", "--basepath", folder / "raw", "--output_dir", output_dir)
    verdicts = [Verdict("full", f"{run.seconds:.1f} s {run.peak_mb:.0f} MB")]
    if recipe.law == "exponential":
        verdicts += pull_verdicts(sensor, output_dir / "dark_model")
    verdicts += prediction_verdicts(sensor, output_dir, model, unseen)
    return verdicts + faint_verdicts(sensor, output_dir, model, faint)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--law", choices=sorted(MODEL_OF_LAW), action="append", help="default: both")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="leave campaigns and products in this folder")
    options = parser.parse_args(arguments)
    passed = True
    with tempfile.TemporaryDirectory() as temporary:
        for law in options.law or sorted(MODEL_OF_LAW):
            start = time.perf_counter()
            recipe = dataclasses.replace(PRESETS["default"], law=law, seed=options.seed)
            folder = (options.keep or Path(temporary)) / law
            verdicts = judge(recipe, folder)
            passed &= print_verdicts(f"law {law}, seed {options.seed} ({time.perf_counter() - start:.0f} s)", verdicts)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
