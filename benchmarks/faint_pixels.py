"""Faint pixels with and without the prior by signal level: errors of cells left out, and of darks where truth is known.

``python benchmarks/faint_pixels.py`` runs ``full`` twice on each campaign, with ``shape_prior`` signal and wide, and
compares pixels whose signal is below three read noises in the longest exposure of the warmest cell fitted: simulated
sensors of both laws, cold and short parts of the real set, and the whole of it, row by row. Exit code 1 if the prior
does not lower their errors, biases them, makes their stated errors untrue, or makes a row of the whole set worse.
``--quick`` takes fewer pixels of the simulated sensors; ``--simulated`` and ``--real`` do one part.
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
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from simulated import PRESETS, Recipe, Sensor, write_campaign

from benchmarks import judging
from benchmarks.common import Verdict, print_verdicts, real_data, robust_spread, run_pipeline
from benchmarks.heldout_real import SET
from benchmarks.judging import MODEL_OF_LAW, Outcome, find_synthetic
from darkpipe.files.drift import drift_of
from darkpipe.files.fitting import UnitFiles, fit_rows, plan_units, read_population, tile_bands
from darkpipe.files.layout import OutputDir
from darkpipe.files.masters import read_cells, read_reference
from darkpipe.files.model_maps import read_saturation
from darkpipe.files.products import read_shape
from darkpipe.science.drift import Drift

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

MODELS = {"exp_2d": "", "two_component": "two_component"}
PRIORS = ("wide", "signal")
ENERGY_GAP_EV = 1.12
READ_NOISES = 3.0
FEW = 500  # pixels; below, nothing is judged
SIGMAS = 3.0  # a paired difference of more than this many of its errors is one
LARGEST_BIAS_ADU = 0.05
ROW_WORSE = 0.01  # of a row's error; see docs/science.md: a shape without a prior follows the error of a bias
CAMPAIGNS: dict[str, dict[str, object]] = {
    "faint sensor": {"bulk_rate_adu_s": 0.02},
    "3 frames": {"bulk_rate_adu_s": 0.02, "n_darks": 3},
    "cold": {"temperatures_c": (-45.0, -40.0, -35.0, -30.0, -25.0)},
    "3 x 3, 1 frame": {"temperatures_c": (-35.0, -30.0, -25.0), "exposures_s": (30.0, 100.0, 300.0), "n_darks": 1},
    "default": {},
}
PARTS: dict[str, tuple[tuple[float, ...], float]] = {
    "-10 and -5 C, to 60 s": ((-10.0, -5.0), 60.0),
    "-10 and -5 C, to 30 s": ((-10.0, -5.0), 30.0),
}


def fit_both(raw: Path, folder: Path, exclude: Sequence[float] = ()) -> dict[str, Path]:
    """Output directories of ``full`` on a campaign with each prior."""
    outputs = {}
    for prior in PRIORS:
        settings = folder / f"{prior}.yaml"
        fit = {"shape_prior": prior, "exclude_temperatures_c": list(exclude)}
        settings.write_text(yaml.safe_dump({"fit_dark_model": fit}))
        outputs[prior] = folder / prior
        run_pipeline("--mode", "full", "--basepath", raw, "--output_dir", outputs[prior], "--config", settings)
    return outputs


def held_out_errors(output_dir: Path, model: str) -> tuple[list[tuple[float, float]], Array]:
    """(temperature, exposure) of a model's n cells, and the error of each pixel of each, left out (n, rows, cols): the
    fit of the run again, which keeps averages of blocks alone."""
    out = OutputDir(output_dir, None)
    table = Table.read(out.model.held_out(model, ""), format="ascii.ecsv")
    names = [str(name) for name in table["cell"]]
    cells = [c for c in read_cells(out.groups) if c.name in names]
    reference = read_reference(out.reference)
    _, _, one_level = plan_units(cells, reference, model, ENERGY_GAP_EV, two_dimensional=False)
    drift = Drift(**drift_of(out.corrected, out.bias_frames, reference.scale_factor))
    files = UnitFiles(model, "", cells, reference, ENERGY_GAP_EV, one_level, drift)
    masters = [out.master_dark(c.name) for c in cells]
    noise = out.read_noise_map if out.read_noise_map.exists() else None
    population = read_population(out.model.population(model, ""))
    errors = []
    for rows in tile_bands(read_shape(masters[0]), len(cells)):
        level = read_saturation(out.model, rows)
        made, shape = fit_rows(files, masters, noise, out.model.hot_pixel_mask, population, level, rows, 0)
        errors.append(made.held_out_error_adu.reshape(-1, *shape))
    at = [(round(c.temperature_c, 1), round(c.exposure_s, 3)) for c in cells]
    return at, np.concatenate(errors, axis=1).astype(float)


def paired(what: str, wide: Array, signal: Array, *, judged: bool = True) -> Verdict:
    """Mean absolute errors of the same pixels with the prior and without, and whether they are lower."""
    known = np.isfinite(wide) & np.isfinite(signal)
    if known.sum() < FEW:
        return Verdict(what, f"({known.sum()} errors)")
    before, after = np.abs(wide[known]), np.abs(signal[known])
    difference = after - before
    error = float(difference.std() / np.sqrt(difference.size))
    ok = bool(difference.mean() < SIGMAS * error and difference.mean() < 0) if judged else None
    return Verdict(what, f"{before.mean():.4f} {after.mean():.4f} {after.mean() / before.mean():.4f}",
                   "lower" if judged else "", ok)  # fmt: skip


def held_out_of(what: str, outputs: dict[str, Path], model: str, faint: Bools, *, judged: bool = True) -> Verdict:
    """Held-out errors of the faint pixels, all cells together."""
    errors = {prior: held_out_errors(outputs[prior], model)[1][:, faint] for prior in PRIORS}
    return paired(f"{model}: {what} [ADU]", errors["wide"].ravel(), errors["signal"].ravel(), judged=judged)


def against_truth(sensor: Sensor, outputs: dict[str, Path], model: str, faint: Bools, judged: bool) -> list[Verdict]:
    """Synthetic darks between the cells: errors, mean error, and honesty of the stated errors of faint pixels."""
    runs = {prior: Outcome(sensor, outputs[prior], model) for prior in PRIORS}
    off, pulls = {}, {}
    for prior, run in runs.items():
        run.synthesise()
        off[prior] = np.stack([(d.value - d.truth)[faint] for d in run.darks.values()])
        spreads = [robust_spread(judging.pull_of(d)[faint]) for d in run.darks.values()]
        pulls[prior] = max(spreads, key=lambda s: abs(s - 1))
    pixels = int(faint.sum())
    bias = {prior: float(max(np.nanmean(values, axis=1), key=abs)) for prior, values in off.items()}
    error = float((np.nanstd(off["signal"], axis=1) / np.sqrt(pixels)).max())
    largest = max(abs(bias["wide"]), LARGEST_BIAS_ADU) + SIGMAS * error
    allowed = judging.SPREAD + SIGMAS * 0.96 / np.sqrt(pixels) * (pixels < judging.MANY)
    return [
        paired(f"{model}: against truth [ADU]", off["wide"].ravel(), off["signal"].ravel(), judged=judged),
        Verdict(
            "  largest mean error of a dark [ADU]",
            f"{bias['wide']:+.4f} {bias['signal']:+.4f}",
            f"|.| <= {largest:.3f}" if judged else "",
            abs(bias["signal"]) <= largest if judged else None,
        ),
        Verdict(
            "  spread of pulls, dark farthest from 1",
            f"{pulls['wide']:.3f} {pulls['signal']:.3f}",
            f"1.00 +- {allowed:.2f}" if judged else "",
            bool(abs(pulls["signal"] - 1) <= allowed) if judged else None,
        ),
    ]


def simulated(name: str, recipe: Recipe, folder: Path) -> list[Verdict]:
    """What the prior does to faint pixels of a simulated sensor; judged for the model that is its law."""
    sensor = write_campaign(folder / "raw", dataclasses.replace(recipe, **CAMPAIGNS[name]))  # type: ignore[arg-type]
    outputs = fit_both(folder / "raw", folder)
    noise = READ_NOISES * sensor.recipe.read_noise_e / sensor.recipe.gain_e_per_adu
    brightest = sensor.signal_adu(max(sensor.recipe.temperatures_c), max(sensor.recipe.exposures_s))
    faint = (brightest < noise) & ~sensor.telegraph
    verdicts = [Verdict("faint pixels", f"{faint.mean():.1%}")]
    for model in MODELS:
        if faint.sum() >= FEW:
            judged = model == MODEL_OF_LAW[recipe.law]
            verdicts.append(held_out_of("held out", outputs, model, faint, judged=judged))
            verdicts += against_truth(sensor, outputs, model, faint, judged)
    for prior in PRIORS:
        said = yaml.safe_load((outputs[prior] / "dark_model" / "model.yaml").read_text())
        scores = " ".join(f"{m['name']} {m['score']:.4f}" for m in said["models"] if m["score"] is not None)
        verdicts.append(Verdict(f"auto takes, {prior}: {scores}", str(said["chosen"])))
    return verdicts


def part_of_real(folder: Path, temperatures_c: Sequence[float], longest_s: float) -> None:
    """Links to the frames of the real set at these temperatures, to this exposure."""
    folder.mkdir()
    for path in sorted((real_data() / SET).rglob("*")):
        if path.suffix.lower() not in (".fits", ".fit", ".fts"):
            continue
        header = fits.getheader(path)
        cold = any(abs(float(header["SET-TEMP"]) - t) < 0.5 for t in temperatures_c)
        if cold and float(header["EXPTIME"]) <= longest_s + 0.5:
            (folder / f"{path.parent.name}_{path.name}").symlink_to(path)


def rows_of(whole: dict[str, Path], model: str, column: str) -> list[Verdict]:
    """Held-out errors of every cell with the prior and without."""
    path = Path("dark_model", MODELS[model], "held_out.ecsv")
    tables = {p: Table.read(whole[p] / path, format="ascii.ecsv") for p in PRIORS}
    rows = {p: np.asarray(tables[p][column], float) for p in PRIORS}
    ratio = rows["signal"] / rows["wide"]
    k = int(np.argmax(ratio))
    cell = f"{tables['wide']['temperature_c'][k]:g} C, {tables['wide']['exposure_s'][k]:g} s"
    sums = rows["wide"].sum(), rows["signal"].sum()
    return [
        Verdict(
            f"whole set, {model}: sum of {column}", f"{sums[0]:.2f} {sums[1]:.2f}", "lower", bool(sums[1] < sums[0])
        ),
        Verdict(f"  worst row: {cell}", f"{ratio[k]:.4f}", f"<= {1 + ROW_WORSE:g}", bool(ratio[k] <= 1 + ROW_WORSE)),
        Verdict("  rows that are lower, best ratio", f"{(ratio < 1).sum()} of {ratio.size}, {ratio.min():.3f}"),
    ]


def real(folder: Path) -> list[Verdict]:
    """The whole set row by row, then faint pixels of its parts; which are faint the whole set's model says."""
    whole = fit_both(real_data() / SET, _made(folder / "whole"), exclude=(10.0,))
    verdicts = [v for m in MODELS for c in ("mae_adu", "mae_unflagged_adu") for v in rows_of(whole, m, c)]
    noise = float(yaml.safe_load((whole["wide"] / "reference.yaml").read_text())["read_noise_adu"])
    for name, (temperatures_c, longest_s) in PARTS.items():
        place = _made(folder / f"{len(temperatures_c)}_{longest_s:g}")
        part_of_real(place / "raw", temperatures_c, longest_s)
        outputs = fit_both(place / "raw", place)
        run_pipeline("--mode", "synthetic_2d", "--output_dir", whole["wide"], "--temps", max(temperatures_c),
                     "--exptimes", longest_s)  # fmt: skip
        typical = fits.getdata(find_synthetic(whole["wide"] / "synthetic", max(temperatures_c), longest_s))
        faint = np.isfinite(typical) & (typical < READ_NOISES * noise)
        verdicts.append(Verdict(f"{name}: faint pixels", f"{faint.mean():.1%}"))
        for model in MODELS:
            verdicts.append(held_out_of(f"{name}, held out", outputs, model, faint))
            verdicts.append(held_out_of(f"{name}, held out, all pixels", outputs, model, np.ones_like(faint)))
    return verdicts


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="128 x 128 simulated pixels")
    parser.add_argument("--simulated", nargs="*", choices=list(CAMPAIGNS), metavar="NAME", help="only these; all")
    parser.add_argument("--real", action="store_true", help="the real set only")
    parser.add_argument("--law", choices=sorted(MODEL_OF_LAW), action="append", help="default: both")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    size: dict[str, Any] = {"rows": 128, "cols": 128} if options.quick else {}
    recipe = dataclasses.replace(PRESETS["default"], seed=options.seed, **size)
    passed = True
    print("figures: without the prior, with it, their ratio")
    if not options.real:
        for name in options.simulated or list(CAMPAIGNS):
            for law in options.law or sorted(MODEL_OF_LAW):
                with tempfile.TemporaryDirectory() as place:
                    passed &= print_verdicts(
                        f"{name}, {law}", simulated(name, dataclasses.replace(recipe, law=law), Path(place))
                    )
    if options.simulated is None:
        with tempfile.TemporaryDirectory() as place:
            passed &= print_verdicts("real set", real(Path(place)))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
