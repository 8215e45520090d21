"""Darks beyond the temperatures of the campaign: on simulated truth, and on the real STL-1001E set.

``python benchmarks/extrapolation.py`` makes a campaign whose pixels have generation and diffusion of their own, and
predicts darks 10 °C above its warmest cells: median relative error of bulk and hot pixels (within 2 %), spread of the
pulls, the EXTRAPOLATED bit and the warning. Then the real set: from 0 °C and below to +10 °C, 300 s, with both models;
the deviation of bulk and hot pixels from the master is compared with what the temperature errors of the cells make of
the prediction, and with what its ERR holds beyond the scatter from pixel to pixel. Exit code 1 if a target is missed.
``--real`` and ``--simulated`` do one of the two; ``--output_dir`` keeps the products of the real set, and with
``--no_run`` an earlier run's are judged.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.io import fits
from astropy.table import Table
from scipy import constants

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from simulated import PRESETS, write_campaign

from benchmarks.common import Verdict, print_verdicts, real_data, run_pipeline
from benchmarks.heldout_real import HELD_OUT, SET, run_full
from benchmarks.judging import Array, Bools, Outcome, find_synthetic, pull_of, read_map, spread_verdict
from benchmarks.pulls import Judged, common_parts

BEYOND_C = 10.0
LAWS = {"two_component": "exp_2d", "exp_2d": "two_component"}  # each model, and the one that ERR holds it against
LARGEST_BIAS = 0.02
BITS = {"HOT": 1, "WARM": 2, "DEAD": 4, "SATURATED": 8, "UNSTABLE": 16, "NONLINEAR": 32, "FIT_FAILED": 256}
EXTRAPOLATED = 1 << 10
REAL_POINT = (10.0, 300.0)
SIGMAS = 2.0  # of the predicted common error that a deviation on the real set may have
HONEST = (0.7, 1.4)  # stated over predicted common error


def ask(output_dir: Path, model: str, temperature_c: float, exposures_s: Sequence[float]) -> str:
    """Ask for darks at one temperature; what the pipeline said."""
    listed = ("--temps", f" {temperature_c}", "--exptimes", " ".join(map(str, exposures_s)))
    return run_pipeline("--mode", "synthetic_2d", "--output_dir", output_dir, "--model", model, *listed).output


def simulated_verdicts(folder: Path, seed: int) -> list[Verdict]:
    """Predictions of both models 10 °C beyond a simulated campaign; only that of the sensor's law is judged."""
    size: dict[str, Any] = {"rows": 128, "cols": 128, "hot_fraction": 0.03}
    recipe = dataclasses.replace(PRESETS["default"], law="physics", seed=seed, hot_decades=(0.3, 2.5), **size)
    sensor = write_campaign(folder / "raw", recipe)
    run_pipeline("--mode", "full", "--basepath", folder / "raw", "--output_dir", folder / "out")
    warm, exposures = max(recipe.temperatures_c) + BEYOND_C, (30.0, 300.0)
    verdicts = []
    said_of, darks = {}, {}
    for model in LAWS:  # one after the other: darks of both stand at the same place
        said_of[model] = ask(folder / "out", model, warm, exposures)
        outcome = Outcome(sensor, folder / "out", model)
        darks[model] = {exposure: outcome.dark(warm, exposure) for exposure in exposures}
    for model, said in said_of.items():
        judged = model == "two_component"
        for exposure in exposures:
            dark, beside = darks[model][exposure], darks[LAWS[model]][exposure]
            # without half the difference of the laws, which is an error only where the law is not the sensor's
            own = np.sqrt(np.maximum(dark.error**2 - 0.25 * (dark.value - beside.value) ** 2, 0.0))
            fit_alone = dataclasses.replace(dark, error=own)
            where = f"{model}: {warm:g} C, {exposure:g} s"
            for kind, pixels in (("bulk", ~sensor.hot), ("hot", sensor.hot)):
                chosen = pixels & dark.inside & np.isfinite(dark.value)
                relative = ((dark.value - dark.truth) / dark.truth)[chosen]
                off, sigma = float(np.median(relative)), 1.25 * float(np.std(relative)) / np.sqrt(relative.size)
                ok = abs(off) <= LARGEST_BIAS if judged else None
                target = f"within {LARGEST_BIAS:.0%}" if judged else ""
                shown = f"{off:+.3%} +- {sigma:.3%}"
                verdicts.append(Verdict(f"{where}, {kind}: median relative error", shown, target, ok))
                verdicts.append(spread_verdict(f"  pulls, {kind}", pull_of(dark)[chosen], judged=judged))
                alone = pull_of(fit_alone)[chosen]
                verdicts.append(spread_verdict(f"  of the fit's own error, {kind}", alone, judged=judged))
            marked = float(np.mean((dark.dq & EXTRAPOLATED) != 0))
            verdicts.append(Verdict("  pixels marked EXTRAPOLATED", f"{marked:.1%}", "all", marked == 1.0))
        verdicts.append(warning_verdict(said, recipe.temperatures_c))
    return verdicts


def warning_verdict(said: str, temperatures_c: Sequence[float]) -> Verdict:
    """Whether the range of the campaign was named in the warning."""
    span = f"{min(temperatures_c):g} to {max(temperatures_c):g}"
    plain = " ".join(said.split())
    return Verdict("  warning names the range", span, "said", "extrapolated" in plain and span in plain)


def candidate_verdicts(output_dir: Path) -> list[Verdict]:
    """Whether the evaluation shows the models among which auto chose, with what it chose by."""
    models = {m["name"] for m in yaml.safe_load((output_dir / "dark_model" / "model.yaml").read_text())["models"]}
    listed: set[str] = set()
    scored: set[str] = set()
    for path in sorted((output_dir / "evaluation").glob("*.ecsv")):
        table = Table.read(path, format="ascii.ecsv")
        if "model" in table.colnames:
            listed |= {str(name) for name in table["model"]}
            scored |= {str(name) for name in table["model"]} if "score" in table.colnames else set()
    return [
        Verdict("evaluation: models with held-out errors", ", ".join(sorted(listed)), "all fitted", models <= listed),
        Verdict("evaluation: models with a score", ", ".join(sorted(scored)) or "none", "all fitted", models <= scored),
    ]


@dataclass(frozen=True)
class Typical:
    """A typical pixel of a class: median signal of each fitted cell [ADU], and of the cell beyond."""

    signal: Array
    variance: Array


@dataclass(frozen=True)
class Grid:
    """The fitted cells: temperature [°C] and its error, exposure [s], frames, noise; error of the cell beyond."""

    temperature_c: Array
    sigma_c: Array
    exposure_s: Array
    frames: Array
    read_variance: float
    gain: float
    beyond_sigma_c: float
    t0_c: float

    def typical(self, signal: Array) -> Typical:
        """With the noise of a master."""
        return Typical(signal, (self.read_variance + np.maximum(signal, 0) / self.gain) / self.frames)


def rows_of(model: str, temperature_c: Array, exposure_s: Array, t0_c: float) -> Array:
    """Derivatives (n, k) of the signal (two_component) or of its logarithm (exp_2d) in the parameters."""
    if model == "exp_2d":
        return np.stack([np.ones_like(exposure_s), np.log(exposure_s), temperature_c], axis=1)
    kelvin, zero = temperature_c + constants.zero_Celsius, t0_c + constants.zero_Celsius
    energy = 1.12 / (constants.k / constants.e) * (1 / kelvin - 1 / zero)
    generation, diffusion = (kelvin / zero) ** 1.5 * np.exp(-energy / 2), (kelvin / zero) ** 3 * np.exp(-energy)
    return np.stack([exposure_s * generation, exposure_s * diffusion], axis=1)


def growth(model: str, grid: Grid, pixel: Typical, temperature_c: Array) -> Array:
    """d ln S/dT [1/K] of a typical pixel at temperatures, by the model fitted to it."""
    p = fitted(model, grid, pixel)[0]
    step, one = 0.01, np.ones_like(temperature_c)
    high, low = (rows_of(model, temperature_c + d, one, grid.t0_c) @ p for d in (step, -step))
    return np.asarray((high - low if model == "exp_2d" else np.log(high / low)) / (2 * step))


def fitted(model: str, grid: Grid, pixel: Typical) -> tuple[Array, Array]:
    """Parameters of a typical pixel, and what they are of the cells' values (k, n); logarithms for exp_2d."""
    x = rows_of(model, grid.temperature_c, grid.exposure_s, grid.t0_c)
    value = np.log(pixel.signal) if model == "exp_2d" else pixel.signal
    weight = pixel.signal**2 / pixel.variance if model == "exp_2d" else 1 / pixel.variance
    made = np.linalg.solve(x.T @ (weight[:, None] * x), x.T * weight)
    return np.asarray(made @ value), np.asarray(made)


def predicted_error(model: str, grid: Grid, pixel: Typical) -> float:
    """Relative 1 sigma of (prediction - master) at the cell beyond, from the temperatures alone: cells of one
    temperature are off together, and so is the master itself."""
    point = (np.array([REAL_POINT[0]]), np.array([REAL_POINT[1]]))
    x = rows_of(model, *point, grid.t0_c)
    p, made = fitted(model, grid, pixel)
    moved = growth(model, grid, pixel, grid.temperature_c) * (1.0 if model == "exp_2d" else pixel.signal)
    response = (x @ made)[0] * moved / (1.0 if model == "exp_2d" else float((x @ p)[0]))
    variance = (float(growth(model, grid, pixel, point[0])[0]) * grid.beyond_sigma_c) ** 2
    for temperature in np.unique(grid.temperature_c):
        here = grid.temperature_c == temperature
        variance += (response[here].sum() * float(grid.sigma_c[here].mean())) ** 2
    return float(np.sqrt(variance))


def read_grid(output_dir: Path) -> tuple[Grid, list[Path], Path]:
    """The fitted cells, their masters, and the master beyond."""
    groups = Table.read(output_dir / "groups.ecsv", format="ascii.ecsv")
    known = yaml.safe_load((output_dir / "reference.yaml").read_text())
    inside = np.asarray(groups["temperature_c"]) < REAL_POINT[0] - 1
    paths = [output_dir / "dark_masks_by_temp" / f"darks_{cell}.fits" for cell in groups["cell"]]
    columns = {name: np.asarray(groups[name], float) for name in groups.colnames if groups[name].dtype.kind in "fi"}
    grid = Grid(
        columns["temperature_c"][inside],
        columns["temperature_sigma_c"][inside],
        columns["exposure_s"][inside],
        columns["frames"][inside],
        float(known["read_noise_adu"]) ** 2,
        float(known["gain_e_per_adu"]),
        float(columns["temperature_sigma_c"][~inside][0]),
        float(known["temperature_c"]),
    )
    fitted_paths = [path for path, ok in zip(paths, inside, strict=True) if ok]
    return grid, fitted_paths, next(path for path, ok in zip(paths, inside, strict=True) if not ok)


def classes_of(output_dir: Path) -> dict[str, Bools]:
    """Unflagged pixels: bulk ones (neither warm nor hot) and hot ones."""
    mask = read_dq(output_dir / "dark_model" / "hot_pixel_mask.fits")
    good = (mask & sum(BITS[name] for name in ("DEAD", "SATURATED", "UNSTABLE", "NONLINEAR", "FIT_FAILED"))) == 0
    return {
        "bulk": good & ((mask & (BITS["HOT"] | BITS["WARM"])) == 0),
        "hot": good & ((mask & BITS["HOT"]) != 0),
    }


def read_dq(path: Path) -> Array:
    """The DQ plane of a product."""
    with fits.open(path) as hdus:
        return np.asarray(hdus["DQ"].data).astype(np.uint16)


def bias_verdict(output_dir: Path, classes: dict[str, Bools]) -> Verdict:
    """How many seconds of dark signal the one bias frame at +10 °C holds: what read-out lets hot pixels gather stands
    in bias and dark alike and cancels, if it took as long."""
    cold, warm = (read_map(output_dir / "bias" / f"master_bias_T{t:.1f}C.fits")[0] for t in (0.0, REAL_POINT[0]))
    rate = read_map(read_grid(output_dir)[2])[0] / REAL_POINT[1]
    hottest = classes["hot"] & (rate > 10 * np.median(rate[classes["bulk"]]))
    excess = (warm - cold) - np.median((warm - cold)[classes["bulk"]])
    held = excess[hottest] / rate[hottest]
    sigma = 1.25 * float(np.std(held)) / np.sqrt(held.size)
    what = f"+10 C bias against that of 0 C holds, {held.size} hottest"
    return Verdict(what, f"{np.median(held):.2f} +- {sigma:.2f} s", f"of {REAL_POINT[1]:g} s")


def real_verdicts(output_dir: Path) -> list[Verdict]:
    """Deviation at +10 °C, 300 s of bulk and hot pixels against the predicted and the stated common error."""
    grid, paths, beyond = read_grid(output_dir)
    master, noise, _ = read_map(beyond)
    classes = classes_of(output_dir)
    cells = np.stack([read_map(path)[0] for path in paths])
    verdicts = [bias_verdict(output_dir, classes)]
    for model in HELD_OUT:
        ask(output_dir, model, REAL_POINT[0], [REAL_POINT[1]])
        value, error, dq = read_map(find_synthetic(output_dir / "synthetic", *REAL_POINT))
        for kind, pixels in classes.items():
            chosen = pixels & np.isfinite(value) & (master > 5 * noise) & np.isfinite(cells).all(axis=0)
            signal = np.array([np.median(plane[chosen]) for plane in cells])
            predicted = predicted_error(model, grid, grid.typical(signal))
            both = np.hypot(error[chosen], noise[chosen])
            off, stated, own = common_parts(Judged(value[chosen], both, master[chosen]), relative=True)
            where = f"{model}, {kind} ({int(chosen.sum())})"
            spread = 1.25 * own / np.sqrt(chosen.sum())
            verdicts += [
                Verdict(f"{where}: median deviation", f"{off:+.2%} +- {spread:.2%}",
                        f"within {SIGMAS:g} x {predicted:.2%}", abs(off) <= SIGMAS * predicted),
                Verdict("  common error stated / predicted", f"{stated / predicted:.2f} ({stated:+.2%})",
                        f"{HONEST[0]} to {HONEST[1]}", HONEST[0] <= stated / predicted <= HONEST[1]),
                Verdict("  scatter between pixels; median |deviation|",
                        f"{own:.2%}; {np.median(np.abs(value / master - 1)[chosen]):.2%}"),
            ]  # fmt: skip
        marked = float(np.mean((dq & EXTRAPOLATED) != 0))
        verdicts.append(Verdict("  pixels marked EXTRAPOLATED", f"{marked:.1%}", "all", marked == 1.0))
    return verdicts


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, help="keep the products of the real set here")
    parser.add_argument("--no_run", action="store_true", help="judge the products that are there")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--simulated", action="store_true", help="only the simulated truth")
    parser.add_argument("--real", action="store_true", help="only the real set")
    options = parser.parse_args(arguments)
    if options.no_run and options.output_dir is None:
        parser.error("--no_run needs --output_dir")
    both = options.simulated == options.real
    passed = True
    with tempfile.TemporaryDirectory() as temporary:
        if options.simulated or both:
            verdicts = simulated_verdicts(Path(temporary) / "simulated", options.seed)
            verdicts += candidate_verdicts(Path(temporary) / "simulated" / "out")
            passed &= print_verdicts(f"simulated, {BEYOND_C:g} C beyond the campaign, seed {options.seed}", verdicts)
        if options.real or both:
            output_dir = options.output_dir or Path(temporary) / "real"
            if not options.no_run:
                run_full(output_dir, real_data() / SET, Path(temporary) / "settings.yaml")
            verdicts = [*real_verdicts(output_dir), *candidate_verdicts(output_dir)]
            passed &= print_verdicts("STL-1001E from 0 C and below to +10 C, 300 s", verdicts)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
