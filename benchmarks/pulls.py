"""Honesty of errors on simulated truth: (value - truth)/error of parameter maps and of predicted darks.

``python benchmarks/pulls.py`` goes through campaigns of both laws, a line each: the spread of the pulls over pixels of
every map, and of darks predicted at cells, between them and beyond them; 1.00 ± 0.05 is asked for, with three
statistical errors where pixels are few. Then the errors that all pixels have in common: many small campaigns with a
temperature that is off its set point, or a pedestal that drifts; what the median pixel is off by is compared with what
the errors hold beyond the scatter from pixel to pixel. Exit code 1 if a figure misses its target.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from simulated import PRESETS, Recipe, write_campaign

from benchmarks import judging
from benchmarks.common import print_verdicts, robust_spread, run_pipeline
from benchmarks.judging import MAPS, MODEL_OF_LAW, Array, Bools, Outcome, Point, Verdict, between, read_map
from benchmarks.scenarios import SCENARIOS

PIXELS = {"rows": 128, "cols": 128, "hot_fraction": 0.02}
CASES: dict[str, Mapping[str, object]] = {
    "5 frames": {"n_darks": 5},
    "1 frame": SCENARIOS["1 frame"].changes,
    "20 frames": SCENARIOS["20 frames"].changes,
    "2 and 40 frames": SCENARIOS["2 and 40 frames"].changes,
    "3 biases": {"n_darks": 5, **SCENARIOS["3 biases"].changes},
    "faint, 5 frames": {"n_darks": 5, **SCENARIOS["faint sensor"].changes},
    "bright, 5 frames": {"n_darks": 5, **SCENARIOS["bright sensor"].changes},
}

STEP_K = float(0.2 * np.sqrt(12))  # a thermometer that leaves 0.2 K open
COMMON: dict[str, Mapping[str, object]] = {
    # bright, so that the noise of a pixel is small beside the temperature; readings flicker between two steps
    "temperature off by 0.2 K": {
        "set_point_error_k": 0.2,
        "thermometer_step_k": STEP_K,
        "thermometer_noise_k": 0.07,
        "temperatures_c": tuple(round(STEP_K * (0.5 - 6 * k), 4) for k in (3, 2, 1, 0)),
        "exposures_s": (30.0, 100.0, 300.0),
        "bulk_rate_adu_s": 6.0,
        "hot_decades": (0.3, 1.5),
        "n_darks": 6,
    },
    # faint and quiet, so that the pedestal is not lost in the noise of a pixel
    "pedestal drift 0.75 ADU": {
        "pedestal_drift_adu": 0.75,
        "temperatures_c": (-15.0, -10.0, -5.0, 0.0),
        "exposures_s": (30.0, 100.0, 300.0),
        "n_darks": 1,
        "n_biases": 5,
        "bulk_rate_adu_s": 0.1,
        "hot_decades": (0.3, 1.0),
        "gain_e_per_adu": 10.0,
        "read_noise_e": 2.0,
    },
}
SMALL = {"rows": 64, "cols": 64, "hot_fraction": 0.02}
CAMPAIGNS = 10
WITHIN = 0.998  # of rms pulls of honest errors pass: some forty are judged
LEAST_SIGNAL = 0.5  # common errors are judged where they are more than this of the pixels' own


@dataclass(frozen=True)
class Judged:
    """Values, their errors and the truth of the pixels that are judged, all (n,)."""

    value: Array
    error: Array
    truth: Array

    @property
    def pull(self) -> Array:
        """(value - truth)/error."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((self.value - self.truth) / self.error)


def points_of(recipe: Recipe) -> dict[str, list[Point]]:
    """Darks that are asked for: at cells, between them, and 5 °C or half of the longest exposure beyond them."""
    temperatures, exposures = sorted(recipe.temperatures_c), sorted(recipe.exposures_s)
    middle = temperatures[len(temperatures) // 2]
    inside_t, inside_s = between(temperatures), between(exposures)
    return {
        "between": [(round(t, 3), round(s, 3)) for t, s in zip(inside_t, inside_s, strict=False)],
        "at cells": [(temperatures[0], exposures[0]), (middle, exposures[1]), (temperatures[-1], exposures[-1])],
        "beyond": [
            (round(temperatures[0] - 5.0, 3), exposures[-1]),
            (round(temperatures[-1] + 5.0, 3), exposures[-1]),
            (middle, 1.5 * exposures[-1]),
        ],
    }


def run(recipe: Recipe, folder: Path) -> Outcome:
    """Make the campaign, fit its models, and ask for the darks of `points_of`."""
    sensor = write_campaign(folder / "raw", recipe)
    run_pipeline("--mode", "fit_2d_model", "--basepath", folder / "raw", "--output_dir", folder / "out")
    outcome = Outcome(sensor, folder / "out")
    points = [point for group in points_of(recipe).values() for point in group]
    temperatures = " ".join(str(t) for t in sorted({t for t, _ in points}))
    exposures = " ".join(str(s) for s in sorted({s for _, s in points}))
    wanted = ("--temps", f" {temperatures}", "--exptimes", exposures)  # the blank: a list may begin with a minus
    run_pipeline("--mode", "synthetic_2d", "--output_dir", folder / "out", "--model", outcome.model, *wanted)
    for point in points:
        outcome.darks[point] = outcome.dark(*point)
    return outcome


def judged_maps(outcome: Outcome) -> dict[str, Judged]:
    """Maps over the pixels of `judging.map_verdicts`: more than 10 read noises in the brightest cell."""
    recipe = outcome.sensor.recipe
    brightest = outcome.sensor.signal_adu(max(recipe.temperatures_c), max(recipe.exposures_s))
    chosen = (brightest > 10 * recipe.read_noise_e / recipe.gain_e_per_adu) & outcome.ordinary
    found = {}
    for name, truth in judging.true_maps(outcome.sensor, outcome).items():
        value, error, _ = read_map(outcome.output_dir / "dark_model" / MAPS[outcome.model][name])
        found[name] = Judged(value[chosen], error[chosen], truth[chosen])
    return found


def judged_dark(outcome: Outcome, point: Point, chosen: Bools) -> Judged:
    """A predicted dark over the chosen pixels that the converter could show."""
    dark = outcome.darks[point]
    mask = chosen & dark.inside & np.isfinite(dark.value)
    return Judged(dark.value[mask], dark.error[mask], dark.truth[mask])


def pixel_line(outcome: Outcome, name: str) -> tuple[str, bool]:
    """Spread and median of the pulls of a campaign, the missed ones marked, and whether none was."""
    cells, passed = [], True
    groups: list[tuple[str, list[Judged]]] = [(f"{k:>6}", [v]) for k, v in judged_maps(outcome).items()]
    for where, points in points_of(outcome.sensor.recipe).items():
        groups.append((where, [judged_dark(outcome, p, outcome.ordinary) for p in points]))
    hot = outcome.ordinary & outcome.sensor.hot
    groups.append(("hot", [judged_dark(outcome, p, hot) for p in points_of(outcome.sensor.recipe)["between"]]))
    for where, members in groups:
        verdicts = [judging.spread_verdict(where, m.pull) for m in members]
        spreads = [robust_spread(m.pull) for m, v in zip(members, verdicts, strict=True) if v.target]
        medians = [float(np.nanmedian(m.pull)) for m in members if m.pull.size]
        ok = all(v.passed is not False for v in verdicts)
        passed &= ok
        worst = max(spreads, key=lambda s: abs(s - 1), default=np.nan)
        middle = max(medians, key=abs, default=np.nan)
        cells.append(f"{where.strip()} {worst:.3f}{' ' if ok else '!'}({middle:+.2f})")
    error = 0.96 / np.sqrt(outcome.ordinary.sum())
    return f"{name:<17} {outcome.sensor.recipe.law[:4]}  " + "  ".join(cells) + f"   +-{error:.3f}", passed


def common_parts(judged: Judged, relative: bool) -> tuple[float, float, float]:
    """(what the median pixel is off by, what the errors hold beyond the pixels' own scatter, that scatter).

    The errors of a pixel are taken as own² + common²; own is the scatter of the deviations about their median. The
    second is negative where the errors are smaller than the scatter.
    """
    scale = judged.truth if relative else np.ones_like(judged.truth)
    off = (judged.value - judged.truth) / scale
    own = robust_spread(off)
    stated = float(np.median((judged.error / scale) ** 2)) - own**2
    return float(np.median(off)), float(np.sign(stated) * np.sqrt(abs(stated))), own


def common_verdicts(found: Mapping[str, Sequence[tuple[float, float, float]]]) -> list[Verdict]:
    """The rms, over campaigns, of what is off over what is stated, against its statistical range."""
    verdicts = []
    for what, rows in found.items():
        off, stated, own = (np.array(column) for column in zip(*rows, strict=True))
        n = off.size
        rms, claimed = float(np.sqrt(np.mean(off**2))), float(np.mean(np.sign(stated) * stated**2))
        low, high = np.sqrt(stats.chi2.ppf([(1 - WITHIN) / 2, (1 + WITHIN) / 2], n) / n)
        ratio = rms / np.sqrt(claimed) if claimed > 0 else np.inf
        shown = f"{ratio:.2f} (off {rms:.3g}, stated {np.sign(claimed) * np.sqrt(abs(claimed)):.3g})"
        judged = rms > LEAST_SIGNAL * float(np.median(own))
        target = f"{low:.2f} to {high:.2f}" if judged else "lost in the pixels' own"
        verdicts.append(Verdict(what, shown, target, bool(low <= ratio <= high) if judged else None))
    return verdicts


def common_case(name: str, law: str, campaigns: int, seed: int, folder: Path) -> bool:
    """Many campaigns of one kind; prints their table."""
    start = time.perf_counter()
    found: dict[str, list[tuple[float, float, float]]] = {}
    relative = "pedestal_drift_adu" not in COMMON[name]
    for number in range(campaigns):
        changes: dict[str, Any] = {**SMALL, **COMMON[name], "law": law, "seed": seed + number}
        with tempfile.TemporaryDirectory(dir=folder) as place:
            outcome = run(dataclasses.replace(PRESETS["default"], **changes), Path(place))
            rows = {f"map {k}": common_parts(v, relative=True) for k, v in judged_maps(outcome).items()}
            for where, points in points_of(outcome.sensor.recipe).items():
                for t_c, t_s in points:
                    for kind, pixels in (("bulk", ~outcome.sensor.hot), ("hot", outcome.sensor.hot)):
                        judged = judged_dark(outcome, (t_c, t_s), pixels & outcome.ordinary)
                        rows[f"{where}: {t_c:g} C, {t_s:g} s, {kind}"] = common_parts(judged, relative)
        for what, row in rows.items():
            found.setdefault(what, []).append(row)
    title = f"{name}, law {law}: rms of median deviation / stated common error, {campaigns} campaigns"
    return print_verdicts(f"{title} ({time.perf_counter() - start:.0f} s)", common_verdicts(found))


def pixel_cases(names: Iterable[str], laws: Sequence[str], seed: int, folder: Path) -> bool:
    """A line for each campaign."""
    print("worst spread (median) of the pulls over pixels; '!' misses 1.00 +- 0.05")
    passed = True
    for name in names:
        for law in laws:
            changes: dict[str, Any] = {**PIXELS, **CASES[name], "law": law, "seed": seed}
            with tempfile.TemporaryDirectory(dir=folder) as place:
                line, ok = pixel_line(run(dataclasses.replace(PRESETS["default"], **changes), Path(place)), name)
            print(line, flush=True)
            passed &= ok
    return passed


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--law", choices=sorted(MODEL_OF_LAW), action="append", help="default: both")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", nargs="*", choices=list(CASES), metavar="NAME", help="of pixels; default: all")
    parser.add_argument("--common", nargs="*", choices=list(COMMON), metavar="NAME", help="default: all")
    parser.add_argument("--campaigns", type=int, default=CAMPAIGNS, help="of each common error")
    options = parser.parse_args(arguments)
    laws = options.law or sorted(MODEL_OF_LAW)
    names = list(CASES) if options.cases is None else options.cases
    with tempfile.TemporaryDirectory() as temporary:
        passed = pixel_cases(names, laws, options.seed, Path(temporary)) if names else True
        for name in list(COMMON) if options.common is None else options.common:
            for law in laws:
                passed &= common_case(name, law, options.campaigns, options.seed, Path(temporary))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
