"""Amplifier glow and black clamp on simulated sensors that have them and on such that do not.

``python benchmarks/glow_and_clamp.py`` makes campaigns with the tests' generator, of both laws, with glow in a corner
of 0.3, 1 and 3 times the bulk's rate, without glow (ten seeds, for the rate of false alarms), and with a black clamp,
runs the pipeline on each, and prints every figure beside its target; exit code 1 if one is missed. ``--parts`` takes
some of them; ``searches`` looks for glow in masters that are made without frames, which takes seconds for what ``none``
does in an hour of a slow machine. ``--real`` says what is found on the real STL-1001E frames.
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
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from simulated import PRESETS, Recipe, Sensor, write_campaign

from benchmarks.common import Verdict, print_verdicts, real_data, robust_spread, run_pipeline
from darkpipe.science.design import make_unit
from darkpipe.science.fit import Cells
from darkpipe.science.glow import block_side, find_glow, reduce_blocks
from darkpipe.science.models import EXP_2D_GLOW, TWO_COMPONENT_GLOW
from darkpipe.science.population import problem_for

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

PEAKS = (0.3, 1.0, 3.0)  # of the bulk's rate at 0 °C
SEEDS = tuple(range(1, 11))
WITH, WITHOUT = ({"physics": m + g, "exponential": e + g} for m, e, g in (
    ("two_component", "exp_2d", "_glow"), ("two_component", "exp_2d", "")))  # fmt: skip
SPREAD, LARGEST_PULL = 0.05, 3.0
UNSEEN = (-12.5, 220.0)  # °C, s: between the cells, where glow tells
LAWS = ("physics", "exponential")
PARTS = ("searches", "glow", "clamp", "none")


def base(law: str, **changes: Any) -> Recipe:
    """A campaign of 5 temperatures and 5 exposures; gamma is 1, as it is where the law is that of exp_2d_glow."""
    return dataclasses.replace(PRESETS["default"], rows=128, cols=128, law=law, gamma=(1.0, 0.0), **changes)


@dataclass(frozen=True)
class Outcome:
    """A finished run and its truth."""

    sensor: Sensor
    out: Path

    @property
    def description(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load((self.out / "dark_model" / "model.yaml").read_text())
        return found

    def folder(self, model: str) -> Path:
        """Of a model's maps."""
        return self.out / "dark_model" / ("" if model == "exp_2d" else model)

    def score(self, model: str) -> float:
        """Held-out error over noise floor."""
        return float(next((m["score"] for m in self.description["models"] if m["name"] == model), np.nan))

    def map(self, model: str, name: str) -> tuple[Array, Array]:
        """Value and 1 sigma of a parameter."""
        with fits.open(self.folder(model) / f"{name}_map.fits") as hdus:
            return np.asarray(hdus["SCI"].data, float), np.asarray(hdus["ERR"].data, float)

    def dark(self, model: str) -> tuple[Array, Array]:
        """A dark at `UNSEEN`, made by a model."""
        folder = self.out / "synthetic"
        listed = ("--temps", UNSEEN[0], "--exptimes", UNSEEN[1])
        run_pipeline("--mode", "synthetic_2d", "--output_dir", self.out, "--model", model, *listed)
        path = max(folder.glob("*.fits"), key=lambda p: p.stat().st_mtime_ns)
        with fits.open(path) as hdus:
            return np.asarray(hdus["SCI"].data, float), np.asarray(hdus["ERR"].data, float)


def run(recipe: Recipe, folder: Path, **settings: Any) -> Outcome:
    """Make a campaign and fit it."""
    sensor = write_campaign(folder / "raw", recipe)
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    run_pipeline("--mode", "full", "--until_step", 5, "--basepath", folder / "raw", "--output_dir", folder / "out",
                 "--config", folder / "settings.yaml", "--quiet")  # fmt: skip
    return Outcome(sensor, folder / "out")


def truth_of(outcome: Outcome, model: str) -> dict[str, Array]:
    """True maps of the law's own model with glow, as they are quoted."""
    sensor, maps = outcome.sensor, outcome.sensor.maps
    if sensor.recipe.law == "exponential":
        return {name: maps[name] for name in ("A", "B", "E")}
    t0 = next(float(m["reference_temperature_c"]) for m in outcome.description["models"] if m["name"] == model)
    gap = sensor.recipe.band_gap_ev
    growth = {"G": sensor.arrhenius(t0, gap / 2, 1.5), "D": sensor.arrhenius(t0, gap, 3.0), "E": 1.0}
    return {name: maps[name] * factor for name, factor in growth.items()}


def pull_verdicts(outcome: Outcome, model: str, where: dict[str, Bools]) -> list[Verdict]:
    """Pulls of the maps in and out of the glow. Those of E share the errors of the smooth map among neighbours, so
    that their root mean square is looked at, which may be smaller than 1 in one campaign and must not be larger."""
    verdicts = []
    for name, truth in truth_of(outcome, model).items():
        value, error = outcome.map(model, name)
        for place, chosen in where.items():
            pull = ((value - truth) / error)[chosen & np.isfinite(value)]
            spread, middle = robust_spread(pull), float(np.median(pull))
            rms = float(np.sqrt(np.mean(np.clip(pull, -6, 6) ** 2)))
            allowed = SPREAD + 3 * 0.96 / np.sqrt(pull.size)
            ok = rms <= 1.5 if name == "E" else abs(spread - 1) <= allowed
            target = "rms <= 1.5" if name == "E" else f"spread 1.00 +- {allowed:.2f}"
            shown = f"{spread:.3f} {middle:+.3f} {rms:.3f}"
            verdicts.append(Verdict(f"pulls of {name}, {place}: spread, median, rms", shown, target, ok))
    return verdicts


def sum_verdict(outcome: Outcome, model: str, corner: Bools) -> Verdict:
    """Sum of E over the corner against its truth; its error from the blocks, which are independent, the common level,
    and the scatter of pixels."""
    value, _ = outcome.map(model, "E")
    with fits.open(outcome.folder(model) / "glow_blocks.fits") as hdus:
        header, error = hdus[0].header, np.asarray(hdus["ERR"].data, float)
    side = int(header["SIDE"])
    rows, cols = (np.arange(length) // side for length in corner.shape)
    number = np.zeros(error.shape)
    np.add.at(number, np.broadcast_arrays(rows[:, None], cols[None, :]), corner.astype(float))
    truth = float(outcome.sensor.maps["E"][corner].sum())
    sigma = float(np.sqrt(((error * number) ** 2).sum() + (header["FLOOR"] * corner.sum()) ** 2))
    total = float(value[corner & np.isfinite(value)].sum())
    pull = (total - truth) / sigma
    shown = f"{total:.2f} {truth:.2f} {pull:+.2f}"
    return Verdict("sum of E in the corner, truth, pull", shown, f"|.| <= {LARGEST_PULL:g}", abs(pull) <= LARGEST_PULL)


def judge_glow(outcome: Outcome) -> list[Verdict]:
    """A sensor with glow."""
    law = outcome.sensor.recipe.law
    model, plain = WITH[law], WITHOUT[law]
    fitted = {m["name"] for m in outcome.description["models"]}
    verdicts = [Verdict("glow found", str(model in fitted), "True", model in fitted)]
    if model not in fitted:
        return verdicts
    glow = outcome.sensor.maps["E"]
    corner = glow > 0.1 * glow.max()
    chosen = str(outcome.description["chosen"])
    verdicts.append(Verdict("auto takes", chosen, model, chosen == model))
    scores = outcome.score(model), outcome.score(plain)
    shown = f"{scores[0]:.4f} {scores[1]:.4f}"
    verdicts.append(Verdict("held-out error with, without", shown, "smaller with", scores[0] < scores[1]))
    note = next(n for n in outcome.description["notes"] if f"({model})" in n)
    inside = float(note.rpartition("is ")[2].split()[0])
    verdicts.append(Verdict("the same inside the glow, with over without", f"{inside:.3f}", "< 1", inside < 1))
    verdicts.append(sum_verdict(outcome, model, corner))
    verdicts += pull_verdicts(outcome, model, {"corner": corner, "elsewhere": ~corner})
    if law == "physics":
        for name in (plain, model):
            value, error = outcome.map(name, "D")
            below = float((value < -3 * error)[corner].mean())
            ok = below <= 0.005 if name == model else None
            verdicts.append(Verdict(f"D below zero in the corner, {name}", f"{below:.1%}", "<= 0.5%" if ok is not None
                                    else "", ok))  # fmt: skip
    truth = outcome.sensor.shown_adu(*UNSEEN)
    errors = {}
    for name in (plain, model):
        value, sigma = outcome.dark(name)
        errors[name] = float(np.abs(value - truth)[corner].mean())
        pull = ((value - truth) / sigma)[corner]
        shown = f"{errors[name]:.3f} {robust_spread(pull):.3f}"
        verdicts.append(Verdict(f"dark of {UNSEEN[0]:g} C, {UNSEEN[1]:g} s in the corner: MAE, pulls, {name}", shown))
    better = errors[model] < errors[plain]
    verdicts.append(Verdict("MAE there, with over without", f"{errors[model] / errors[plain]:.3f}", "< 1", better))
    return verdicts


def judge_none(laws: Sequence[str], seeds: Sequence[int], folder: Path) -> list[Verdict]:
    """Sensors without glow: in how many of the searches it was found all the same."""
    found = searches = 0
    largest: list[float] = []
    clamped = 0
    for law in laws:
        for seed in seeds:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                changes = {"pedestal_drift_adu": 0.5, "temperature_jitter_k": 0.05}
                outcome = run(base(law, seed=seed, **changes), Path(place))
                for model in WITH.values():
                    header = fits.getheader(outcome.folder(model) / "glow_blocks.fits")
                    found += bool(header["FOUND"])
                    searches += 1
                    largest.append(float(header["LARGEST"]))
                clamped += said_clamp(outcome) is not None
    threshold = float(header["THRESH"])
    return [
        Verdict("sensors without glow: found", f"{found} of {searches}", "0", found == 0),
        Verdict("  largest excess, threshold", f"{max(largest):.2f} {threshold:.2f}"),
        Verdict("sensors without clamp: said", f"{clamped} of {len(laws) * len(seeds)}", "0", clamped == 0),
    ]


def made_masters(recipe: Recipe) -> tuple[Array, Array, Cells]:
    """Temperature, exposure and masters of a campaign without its frames: Poisson and read noise, errors of the bias,
    drift of the pedestal, jitter of the temperature."""
    sensor, rng = Sensor(recipe), np.random.default_rng([recipe.seed, 9])
    temperature, exposure = (
        a.ravel() for a in np.meshgrid(recipe.temperatures_c, recipe.exposures_s, indexing="ij")
    )  # fmt: skip
    gain, frames, pixels = recipe.gain_e_per_adu, recipe.n_darks, recipe.rows * recipe.cols
    variance = (recipe.read_noise_e / gain) ** 2 + 1 / 12
    group = np.unique(temperature, return_inverse=True)[1].astype(np.int64)
    bias = rng.normal(0, np.sqrt(variance / recipe.n_biases), (len(recipe.temperatures_c), pixels))
    masters = []
    for t, s, g in zip(temperature, exposure, group, strict=True):
        off = rng.normal(0, recipe.temperature_jitter_k / np.sqrt(frames))
        charge = rng.poisson(sensor.signal_adu(t + off, s).ravel() * gain * frames) / (gain * frames)
        level = rng.normal(0, recipe.pedestal_drift_adu / np.sqrt(frames))
        masters.append(charge + rng.normal(0, np.sqrt(variance / frames), pixels) + bias[g] + level)
    cells = Cells(
        np.array(masters, np.float32), np.full((temperature.size, pixels), frames, np.uint16),
        np.full(pixels, variance, np.float32), gain, np.zeros(temperature.size), np.zeros(temperature.size), group,
        np.full(bias.shape, variance / recipe.n_biases, np.float32),
    )  # fmt: skip
    return temperature, exposure, cells


def judge_searches(laws: Sequence[str], seeds: Sequence[int]) -> list[Verdict]:
    """Searches of masters of sensors without glow, by both models."""
    excess: list[float] = []
    found, threshold = 0, np.nan
    for law in laws:
        for seed in seeds:
            recipe = base(law, seed=seed, pedestal_drift_adu=0.5, temperature_jitter_k=0.05)
            temperature, exposure, cells = made_masters(recipe)
            shape = (recipe.rows, recipe.cols)
            side = block_side(shape)
            usable = np.ones(recipe.rows * recipe.cols, np.bool_)
            blocks = reduce_blocks(cells, usable, shape, side, recipe.n_darks)
            for model in (TWO_COMPONENT_GLOW, EXP_2D_GLOW):
                unit = make_unit(model, "", tuple(range(temperature.size)), temperature, exposure, -10.0, 1.12)
                problem = problem_for(model, temperature, exposure, unit.fit_reference)
                slot = model.glow_slot
                assert slot is not None
                made = find_glow(problem, slot, blocks, (-(-shape[0] // side), -(-shape[1] // side)))
                found += made.found
                excess.append(made.largest_sigma)
                threshold = made.threshold_sigma
    return [
        Verdict("masters without glow: found", f"{found} of {len(excess)}", "0", found == 0),
        Verdict("  largest excess, threshold", f"{max(excess):.2f} {threshold:.2f}"),
    ]


def said_clamp(outcome: Outcome) -> float | None:
    """1 sigma of a frame's level where a clamp was said, else None."""
    meta = Table.read(outcome.out / "corrected.ecsv", format="ascii.ecsv").meta
    return float(meta["clamp"]["offset_sigma_adu"]) if "clamp" in meta else None


def judge_clamp(outcome: Outcome) -> list[Verdict]:
    """A camera with a clamp: said, its size, and darks as the camera delivers them."""
    recipe = outcome.sensor.recipe
    sigma = said_clamp(outcome)
    verdicts = [Verdict("clamp said", str(sigma is not None), "True", sigma is not None)]
    if sigma is not None:
        ratio = sigma / recipe.pedestal_drift_adu
        verdicts.append(Verdict("level of a frame, over truth", f"{ratio:.2f}", "0.8 to 1.3", 0.8 <= ratio <= 1.3))
        noted = any("clamp" in note for note in outcome.description["notes"])
        verdicts.append(Verdict("said in model.yaml", str(noted), "True", noted))
    truth = outcome.sensor.shown_adu(*UNSEEN)
    charge = outcome.sensor.signal_adu(*UNSEEN)
    fitted = [m["name"] for m in outcome.description["models"]]
    chosen = str(outcome.description["chosen"])
    for model in fitted:
        value, error = outcome.dark(model)
        off = (value - truth)[np.isfinite(value)]
        pull = (value - truth) / error
        shown = f"{np.median(off):+.3f} {np.abs(off).mean():.3f} {robust_spread(pull):.3f}"
        verdicts.append(Verdict(f"dark as delivered, median error, MAE, pulls: {model}", shown))
        if model == chosen:
            spread = robust_spread(pull)
            verdicts.append(Verdict("  its pulls", f"{spread:.3f}", "1.0 +- 0.1", abs(spread - 1) <= 0.1))
            level = abs(float(np.median(off)))
            allowed = LARGEST_PULL * recipe.pedestal_drift_adu
            verdicts.append(
                Verdict(f"  level of the chosen {model}", f"{level:.3f}", f"<= {allowed:g}", level <= allowed)
            )
    verdicts.append(Verdict("median charge there, delivered", f"{np.median(charge):.2f} {np.median(truth):.2f}"))
    return verdicts


def print_real(folder: Path) -> None:
    """What is found on the real set; the cells at +10 °C kept out of the fit, as in the reference figures."""
    raw = real_data() / "stl1001e_sbu_dev"
    (folder / "settings.yaml").write_text(yaml.safe_dump({"fit_dark_model": {"exclude_temperatures_c": [10.0]}}))
    run_pipeline("--mode", "full", "--until_step", 5, "--basepath", raw, "--output_dir", folder / "out",
                 "--config", folder / "settings.yaml")  # fmt: skip
    described = yaml.safe_load((folder / "out" / "dark_model" / "model.yaml").read_text())
    meta = Table.read(folder / "out" / "corrected.ecsv", format="ascii.ecsv").meta
    print("STL-1001E:", described["chosen"], "|", described["why"])
    for model in WITH.values():
        print(f"  {model}: {described['not_fitted'].get(model, 'fitted')}")
    print(*described["notes"], sep="\n")
    print("  clamp:", meta.get("clamp", "not said"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--law", choices=LAWS, action="append", help="default: both")
    parser.add_argument("--peaks", type=float, nargs="+", default=list(PEAKS), help="times the bulk's rate")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="of the sensors without glow")
    parser.add_argument("--real", action="store_true", help="the real set alone")
    options = parser.parse_args(arguments)
    laws = options.law or LAWS
    passed = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.real:
            print_real(folder)
            return 0
        if "searches" in options.parts:
            passed &= print_verdicts("searches", judge_searches(laws, options.seeds))
        for law in laws if "glow" in options.parts else ():
            for peak in options.peaks:
                with tempfile.TemporaryDirectory(dir=folder) as place:
                    recipe = base(law)
                    recipe = dataclasses.replace(recipe, glow_rate_adu_s=peak * recipe.bulk_rate_adu_s)
                    passed &= print_verdicts(f"{law}, glow {peak:g} x bulk", judge_glow(run(recipe, Path(place))))
        for law in laws if "clamp" in options.parts else ():
            for glow in (0.0, 0.6):
                with tempfile.TemporaryDirectory(dir=folder) as place:
                    recipe = base(law, black_clamp=True, pedestal_drift_adu=0.5, glow_rate_adu_s=glow)
                    title = f"{law}, black clamp" + (", with glow" if glow else "")
                    passed &= print_verdicts(title, judge_clamp(run(recipe, Path(place))))
        if "none" in options.parts:
            passed &= print_verdicts("without glow", judge_none(laws, options.seeds, folder))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
