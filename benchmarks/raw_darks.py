"""Honesty of the errors of darks with their bias, as a camera gives them, on simulated truth.

``python benchmarks/raw_darks.py`` fits campaigns of both laws, of many biases and of few, and asks for darks with
``--include_bias`` at cells, between them, at the edge of the campaign and beyond. A line a place: the spread of the
pulls over pixels with the stated error, 1.00 ± 0.05 being asked for, and what it would be if the errors of dark and
bias were independent of each other. Exit code 1 if a figure misses its target.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from simulated import PRESETS, Sensor, write_campaign

from benchmarks import judging
from benchmarks.common import Verdict, print_verdicts, robust_spread, run_pipeline
from benchmarks.judging import MODEL_OF_LAW, Array, Point, read_map

CASES: dict[str, Mapping[str, object]] = {
    "20 biases": {"n_darks": 5, "n_biases": 20},
    "3 biases": {"n_darks": 5, "n_biases": 3},
    "3 biases, faint sensor": {"n_darks": 5, "n_biases": 3, "bulk_rate_adu_s": 0.02},
}
POINTS: dict[str, Point] = {
    "at a cell": (-10.0, 60.0),
    "between cells": (-7.5, 100.0),
    "coldest, shortest": (-20.0, 10.0),
    "coldest, longest": (-20.0, 300.0),
    "warmest, shortest": (0.0, 10.0),
    "warmest, longest": (0.0, 300.0),
    "5 C beyond": (5.0, 300.0),
    "5 C colder": (-25.0, 10.0),
}
BEYOND = ("5 C beyond", "5 C colder")  # shown, not judged: half of the difference of the laws is in the error


def bias_error(folder: Path, temperature_c: float) -> Array:
    """1 sigma of the bias that is added."""
    with fits.open(folder / "bias_model.fits") as hdus:
        v0, v01, v1 = hdus["COVAR"].data.astype(float)
        d = temperature_c - float(hdus[0].header["T_REF"])
    return np.asarray(np.sqrt(v0 + 2 * d * v01 + d * d * v1))


def darks(out: Path, model: str) -> tuple[dict[Point, Path], dict[Point, Path]]:
    """Files of the darks of `POINTS`, without their bias and with it."""
    made = []
    for more in ([], ["--include_bias"]):
        temperatures, exposures = (" ".join(str(v) for v in sorted(set(c))) for c in zip(*POINTS.values(), strict=True))
        at = ("--temps", f" {temperatures}", "--exptimes", exposures)
        run_pipeline("--mode", "synthetic_2d", "--output_dir", out, "--model", model, *at, *more)
        found = {}
        for path in sorted((out / "synthetic").glob("*.fits")):
            header = fits.getheader(path)
            if header["BIASINCL"] == bool(more):
                found[float(header["CCD-TEMP"]), float(header["EXPTIME"])] = path
        made.append(found)
    return made[0], made[1]


def verdicts(sensor: Sensor, out: Path) -> list[Verdict]:
    """Spread of the pulls at each of the points."""
    plain, whole = darks(out, MODEL_OF_LAW[sensor.recipe.law])
    found = []
    for where, (t_c, t_s) in POINTS.items():
        value, error, _ = read_map(whole[t_c, t_s])
        truth = sensor.signal_adu(t_c, t_s) + sensor.bias_adu(t_c)
        use = (truth < 0.93 * sensor.recipe.top_adu) & np.isfinite(value)
        off = (value - truth)[use]
        apart = np.hypot(read_map(plain[t_c, t_s])[1], bias_error(out / "dark_model", t_c))
        v = judging.spread_verdict(where, off / error[use], judged=where not in BEYOND)
        told = f"{robust_spread(off / error[use]):.3f}  (independent: {robust_spread(off / apart[use]):.3f})"
        found.append(dataclasses.replace(v, value=told))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--law", choices=sorted(MODEL_OF_LAW), action="append", help="default: both")
    parser.add_argument("--cases", nargs="*", choices=list(CASES), metavar="NAME", help="default: all")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    passed = True
    for name in list(CASES) if options.cases is None else options.cases:
        for law in options.law or sorted(MODEL_OF_LAW):
            changes: dict[str, Any] = {**CASES[name], "rows": 128, "cols": 128, "law": law, "seed": options.seed}
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                sensor = write_campaign(folder / "raw", dataclasses.replace(PRESETS["default"], **changes))
                run_pipeline("--mode", "fit_2d_model", "--basepath", folder / "raw", "--output_dir", folder / "out")
                passed &= print_verdicts(f"{name}, law {law}: spread of pulls", verdicts(sensor, folder / "out"))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
