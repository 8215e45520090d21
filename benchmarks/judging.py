"""What a finished run is worth when the truth is known: one figure after another, each with its target.

Figures are robust spreads and means over pixels; with 65,536 of them a spread is known to 0.4 % (0.96/sqrt(N), from
the variance of the 16 % and 84 % points), a mean absolute error to 0.3 %.

The importer has the folder of the tests on its path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray
from simulated import Sensor

from benchmarks.common import Verdict, robust_spread, run_pipeline
from benchmarks.crb import expected_mae, prediction_sigma

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
Point = tuple[float, float]

MODEL_OF_LAW = {"exponential": "exp_2d", "physics": "two_component"}
MAPS = {
    "exp_2d": {"A": "dark_A_map.fits", "B": "dark_B_map.fits", "gamma": "dark_gamma_map.fits"},
    "two_component": {"G": "two_component/G_map.fits", "D": "two_component/D_map.fits"},
}
BITS = {"SATURATED": 3, "UNSTABLE": 4, "NONLINEAR": 5, "FEW_SAMPLES": 7, "FIT_FAILED": 8, "AT_BOUND": 9, "OUTLIER": 12}
FALSE_ALARMS = {"UNSTABLE": 2e-3, "NONLINEAR": 1e-3, "OUTLIER": 2e-3, "FIT_FAILED": 0.0}  # of ordinary pixels
SPREAD, MAE_RATIO, FAINT_ADU, CALIBRATION = 0.05, 1.05, 0.1, 0.02
MANY = 10_000  # pixels; below, three statistical errors are allowed beyond the target
FEW = 100  # pixels; below, a spread is not judged


@dataclass(frozen=True)
class Dark:
    """A synthetic dark: value, 1 sigma, bits; truth and Cramér–Rao bound of the same pixels."""

    value: Array
    error: Array
    dq: NDArray[np.uint16]
    truth: Array
    bound: Array
    inside: Bools  # pixels that the converter could show there


def read_map(path: Path) -> tuple[Array, Array, NDArray[np.uint16]]:
    """Value, 1 sigma and status of a product."""
    with fits.open(path) as hdus:
        return (
            np.asarray(hdus["SCI"].data, dtype=np.float64),
            np.asarray(hdus["ERR"].data, dtype=np.float64),
            np.asarray(hdus["DQ"].data).astype(np.uint16),
        )


def between(values: Sequence[float]) -> list[float]:
    """The middles of the first, a middle and the last gap of a grid; the value itself where there is but one."""
    grid = sorted(set(values))
    if len(grid) < 2:
        return grid
    gaps = sorted({0, (len(grid) - 1) // 2, len(grid) - 2})
    return [grid[i] + 0.5 * (grid[i + 1] - grid[i]) for i in gaps]


@dataclass
class Outcome:
    """A finished run beside its truth. `model`: whose darks are judged (that of the law, unless told)."""

    sensor: Sensor
    output_dir: Path
    model: str = ""
    darks: dict[Point, Dark] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model = self.model or MODEL_OF_LAW[self.sensor.recipe.law]

    @cached_property
    def description(self) -> dict[str, object]:
        """model.yaml."""
        read: dict[str, object] = yaml.safe_load((self.output_dir / "dark_model" / "model.yaml").read_text())
        return read

    @cached_property
    def ordinary(self) -> Bools:
        """Pixels without telegraph noise."""
        return np.asarray(~self.sensor.telegraph)

    def synthesise(self) -> None:
        """Ask the pipeline for darks at (temperature, exposure) between those of the campaign, in one call."""
        recipe = self.sensor.recipe
        temperatures = [round(t, 3) for t in between(recipe.temperatures_c)]
        exposures = [round(t, 3) for t in between(recipe.exposures_s)]
        listed = ("--temps", " ".join(map(str, temperatures)), "--exptimes", " ".join(map(str, exposures)))
        run_pipeline("--mode", "synthetic_2d", "--output_dir", self.output_dir, "--model", self.model, *listed)
        for t_c in temperatures:
            for t_s in exposures:
                self.darks[t_c, t_s] = self.dark(t_c, t_s)

    def dark(self, temperature_c: float, exposure_s: float) -> Dark:
        """A synthetic dark that was made, beside the truth."""
        path = find_synthetic(self.output_dir / "synthetic", temperature_c, exposure_s)
        truth = self.sensor.signal_adu(temperature_c, exposure_s)
        inside = truth + self.sensor.bias_adu(temperature_c) < 0.93 * self.sensor.recipe.top_adu
        return Dark(*read_map(path), truth, prediction_sigma(self.sensor, temperature_c, exposure_s), inside)


def find_synthetic(folder: Path, temperature_c: float, exposure_s: float) -> Path:
    """The synthetic dark of a temperature and exposure, by its header."""
    for path in sorted(folder.glob("*.fits")):
        header = fits.getheader(path)
        near = (
            abs(float(header["CCD-TEMP"]) - temperature_c) < 1e-6 and abs(float(header["EXPTIME"]) - exposure_s) < 1e-6
        )
        if near:
            return path
    raise FileNotFoundError(f"no synthetic dark of {temperature_c:g} C and {exposure_s:g} s in {folder}")


def true_maps(sensor: Sensor, outcome: Outcome) -> dict[str, Array]:
    """Truth of the maps of the law's own model, at the temperature they are quoted at."""
    if sensor.recipe.law == "exponential":
        return {name: sensor.maps[name] for name in MAPS["exp_2d"]}
    models = outcome.description["models"]
    assert isinstance(models, list)
    t0 = next(float(m["reference_temperature_c"]) for m in models if m["name"] == "two_component")
    gap = sensor.recipe.band_gap_ev
    growth = {"G": sensor.arrhenius(t0, gap / 2, 1.5), "D": sensor.arrhenius(t0, gap, 3.0)}
    return {name: sensor.maps[name] * growth[name] for name in growth}


def spread_verdict(what: str, pull: Array, *, judged: bool = True) -> Verdict:
    """A spread of pulls against 1.00."""
    pull = pull[np.isfinite(pull)]
    if pull.size < FEW:
        return Verdict(what, f"({pull.size} pixels)")
    spread = robust_spread(pull)
    allowed = SPREAD + 3 * 0.96 / np.sqrt(pull.size) if pull.size < MANY else SPREAD
    ok = bool(abs(spread - 1) <= allowed) if judged else None
    return Verdict(what, f"{spread:.3f} {np.median(pull):+.3f}", f"1.00 +- {allowed:.2f}, median" if judged else "", ok)


def map_verdicts(outcome: Outcome) -> list[Verdict]:
    """Pulls of the maps over pixels whose signal in the brightest cell exceeds 10 read noises; hot pixels apart."""
    sensor = outcome.sensor
    recipe = sensor.recipe
    read_noise = recipe.read_noise_e / recipe.gain_e_per_adu
    bright = sensor.signal_adu(max(recipe.temperatures_c), max(recipe.exposures_s)) > 10 * read_noise
    verdicts = []
    for name, truth in true_maps(sensor, outcome).items():
        value, error, _ = read_map(outcome.output_dir / "dark_model" / MAPS[outcome.model][name])
        with np.errstate(invalid="ignore", divide="ignore"):
            pull = (value - truth) / error
        chosen = bright & outcome.ordinary
        verdicts.append(spread_verdict(f"pulls of {name}", pull[chosen]))
        verdicts.append(spread_verdict("  hot pixels", pull[chosen & sensor.hot]))
        lost = float(np.mean(~np.isfinite(pull[chosen]))) if chosen.any() else 0.0
        verdicts.append(Verdict("  without a value", f"{lost:.3%}"))
    return verdicts


def error_ratio(outcome: Outcome, point: Point, chosen: Bools) -> float:
    """Mean absolute error over the Cramér–Rao expectation of the same pixels; NaN without a pixel."""
    dark = outcome.darks[point]
    known = _known(dark, chosen)
    if not known.any():
        return float("nan")
    return float(np.abs(dark.value - dark.truth)[known].mean()) / expected_mae(dark.bound[known])


def largest_ratio(outcome: Outcome, point: Point) -> float:
    """What `error_ratio` may be over ordinary pixels: with few of them, three of its errors beyond the target."""
    dark = outcome.darks[point]
    bound = dark.bound[_known(dark, outcome.ordinary)]
    if not 0 < bound.size < MANY:
        return MAE_RATIO
    # of a Gaussian's absolute value: variance (1 - 2/pi) sigma², mean sqrt(2/pi) sigma
    return MAE_RATIO + 3 * float(np.sqrt((np.pi / 2 - 1) * (bound**2).sum()) / bound.sum())


def _known(dark: Dark, chosen: Bools) -> Bools:
    return chosen & dark.inside & np.isfinite(dark.value) & np.isfinite(dark.bound)


def pull_of(dark: Dark) -> Array:
    """(value - truth)/error (rows, cols), NaN where the converter could not show the signal."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(dark.inside, (dark.value - dark.truth) / dark.error, np.nan)


def dark_verdicts(outcome: Outcome) -> list[Verdict]:
    """Unseen synthetic darks: error against the bound, honesty of their error plane; hot pixels apart."""
    verdicts = []
    for point, dark in outcome.darks.items():
        where = f"{point[0]:g} C, {point[1]:g} s"
        ratio, bulk, hot = (
            error_ratio(outcome, point, m & outcome.ordinary)
            for m in (np.ones_like(outcome.ordinary), ~outcome.sensor.hot, outcome.sensor.hot)
        )
        shown = f"{ratio:.3f} {bulk:.3f} {hot:.2f}"
        limit = largest_ratio(outcome, point)
        verdicts.append(Verdict(f"MAE/CRB all, bulk, hot: {where}", shown, f"<= {limit:.3g}", ratio <= limit))
        pull = pull_of(dark)
        verdicts.append(spread_verdict("  its pulls", pull[outcome.ordinary]))
        verdicts.append(spread_verdict("  hot pixels", pull[outcome.ordinary & outcome.sensor.hot], judged=False))
        lost = dark.inside & np.isfinite(dark.bound) & ~np.isfinite(dark.value) & outcome.ordinary
        if lost.any():
            verdicts.append(Verdict("  pixels without a value", f"{int(lost.sum())} of {lost.size}"))
    return verdicts


def faint_verdicts(outcome: Outcome) -> list[Verdict]:
    """Mean of (synthetic - truth) over pixels whose true signal is below 20 ADU."""
    verdicts = []
    for (t_c, t_s), dark in outcome.darks.items():
        faint = (dark.truth < 20) & np.isfinite(dark.value) & outcome.ordinary
        if faint.sum() < FEW:
            continue
        off = (dark.value - dark.truth)[faint]
        bias, sigma = float(off.mean()), float(off.std() / np.sqrt(off.size))
        what = f"mean error below 20 ADU: {t_c:g} C, {t_s:g} s ({faint.mean():.0%})"
        ok = abs(bias) <= FAINT_ADU + 3 * sigma * (off.size < MANY)
        verdicts.append(Verdict(what, f"{bias:+.4f}", f"|.| <= {FAINT_ADU} ADU", ok))
    return verdicts


def held_out_verdicts(outcome: Outcome) -> list[Verdict]:
    """Honesty of the errors of left-out cells, over unflagged pixels: the middle of the cells and the extremes."""
    folder = outcome.output_dir / "dark_model" / ("" if outcome.model == "exp_2d" else outcome.model)
    table = Table.read(folder / "held_out.ecsv", format="ascii.ecsv")
    pull = np.asarray(table["pull_spread_unflagged"], float)
    pull = pull[np.isfinite(pull)]
    if pull.size == 0:
        return [Verdict("held-out pulls", "no cell can be left out")]
    ok = bool(abs(np.median(pull) - 1) <= SPREAD)
    return [
        Verdict("held-out pulls, median cell", f"{np.median(pull):.3f}", f"1.00 +- {SPREAD}", ok),
        Verdict("  lowest, highest cell", f"{pull.min():.3f} {pull.max():.3f}", f"1.00 +- {2 * SPREAD}",
                bool(np.abs(pull - 1).max() <= 2 * SPREAD)),
    ]  # fmt: skip


def calibration_verdicts(outcome: Outcome) -> list[Verdict]:
    """Read noise (with its quantisation) and conversion gain as measured, and the model that auto takes."""
    recipe = outcome.sensor.recipe
    found = yaml.safe_load((outcome.output_dir / "reference.yaml").read_text())
    typical = float(np.median(outcome.sensor.read_noise_e)) / recipe.gain_e_per_adu
    truth = float(np.sqrt(typical**2 + 1 / 12))
    noise = found["read_noise_adu"] / truth - 1
    verdicts = [
        Verdict("read noise, relative error", f"{noise:+.3%}", f"within {CALIBRATION:.0%}", abs(noise) <= CALIBRATION)
    ]
    if found["gain_measured_e_per_adu"] is None:
        verdicts.append(Verdict("gain measured", "not"))
    else:
        gain = found["gain_measured_e_per_adu"] / recipe.gain_e_per_adu - 1
        error = found["gain_measured_error"] / recipe.gain_e_per_adu
        ok = abs(gain) <= max(CALIBRATION, 2.5 * error)
        verdicts.append(Verdict("gain, relative error", f"{gain:+.3%}", f"within {CALIBRATION:.0%} or 2.5 s", ok))
        verdicts.append(Verdict("  its own 1 sigma", f"{error:.3%}"))
    chosen, want = str(outcome.description["chosen"]), MODEL_OF_LAW[recipe.law]
    verdicts.append(Verdict("auto takes", chosen, want, chosen == want))
    models = outcome.description["models"]
    assert isinstance(models, list)
    for m in models:
        score = "none" if m["score"] is None else f"{m['score']:.4f}"
        verdicts.append(Verdict(f"  {m['name']}{m['cell']}: score, rel. error", f"{score} {m['relative_error']:.4f}"))
    return verdicts


def flag_verdicts(outcome: Outcome) -> list[Verdict]:
    """Fractions of ordinary pixels with a bit they should not have, and of telegraph pixels found."""
    sensor, recipe = outcome.sensor, outcome.sensor.recipe
    dark = next(iter(outcome.darks.values()))
    brightest = sensor.signal_adu(max(recipe.temperatures_c), max(recipe.exposures_s))
    full = brightest + sensor.bias_adu(max(recipe.temperatures_c)) > 0.8 * recipe.top_adu
    ordinary = outcome.ordinary & ~full
    verdicts = []
    for name, bit in BITS.items():
        wrong = (dark.dq & (1 << bit)) != 0
        rate, hot = float(wrong[ordinary].mean()), wrong[ordinary & sensor.hot]
        limit = FALSE_ALARMS.get(name)
        slack = 0.0 if limit is None else 3 * np.sqrt(max(limit, 1e-12) / ordinary.sum())
        ok = None if limit is None else bool(rate <= limit + slack)
        target = "" if limit is None else f"<= {limit:.1%}"
        verdicts.append(
            Verdict(f"{name} of ordinary, hot pixels", f"{rate:.3%} {hot.mean() if hot.size else 0:.1%}", target, ok)
        )
    if sensor.telegraph.any():
        seen = (dark.dq & (1 << BITS["UNSTABLE"])) != 0
        verdicts.append(Verdict("telegraph pixels found", f"{seen[sensor.telegraph].mean():.0%}"))
    return verdicts


def all_verdicts(outcome: Outcome) -> list[Verdict]:
    """Every figure of a run whose synthetic darks were made."""
    return [
        *map_verdicts(outcome),
        *dark_verdicts(outcome),
        *faint_verdicts(outcome),
        *held_out_verdicts(outcome),
        *calibration_verdicts(outcome),
        *flag_verdicts(outcome),
    ]
