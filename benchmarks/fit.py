"""Fits of pixels beside other ways to the same numbers, in one run: the kernel alone, with cells left out, from masters
on disk to maps on disk, and the noise maps of an EM-CCD.

``python benchmarks/fit.py [--quick] [--corgidrp-python ENV/bin/python]``; DARKPIPE_CORGIDRP_PYTHON is the same.
Pixels are simulated: 25 cells (5 temperatures, 5 exposures) of 20 frames, a sensor of faint pixels of which one in
twenty is hot. Times are those of a core, but wall time from disk to disk; the best of several runs of the product.
Others fit as many pixels as they can in some seconds, from starts near the truth. The floor of a kernel is to copy what
goes in and what comes out.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from scipy.optimize import curve_fit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks import noise_maps
from benchmarks.common import best
from benchmarks.table import Line, markdown
from darkpipe.files.assembling import count_rows, held_out, read_sums, write_maps
from darkpipe.files.fitting import UnitFiles, fit_band, tile_bands, write_tile
from darkpipe.files.masters import Cell, Master, ReferenceValues, master_frame
from darkpipe.files.products import Frame, write_frame
from darkpipe.science.design import make_unit
from darkpipe.science.fit import Cells, Fitted, Prior, Problem, fit_tile
from darkpipe.science.models import EXP_2D, TWO_COMPONENT, Model
from darkpipe.science.population import Population, estimate_population, prior_of, problem_for, with_shape_prior
from darkpipe.science.saturation import Saturation

TEMPERATURES_C, EXPOSURES_S = np.linspace(-15.0, 5.0, 5), np.array([10.0, 30.0, 60.0, 120.0, 300.0])
READ_NOISE_ADU, GAIN, FRAMES, TOP = 6.0, 1.0, 20, 60_000.0
CORGIDRP = "DARKPIPE_CORGIDRP_PYTHON"
KERNEL_US, LINEAR_US, RATIO, LEFT_OUT, DISK_S, NOISE_RATIO = 0.15, 0.05, 1200.0, 3.0, 3.0, 20.0
ROUNDS = 5

F4 = np.ndarray


def design() -> tuple[np.ndarray, np.ndarray]:
    """Temperature and exposure of the cells (25,)."""
    t, e = np.meshgrid(TEMPERATURES_C, EXPOSURES_S, indexing="ij")
    return t.ravel(), e.ravel()


def masters(pixels: int, seed: int = 1) -> F4:
    """(25, pixels) masters without bias [ADU]; NaN where saturated."""
    rng = np.random.default_rng(seed)
    temperature, exposure = design()
    rate = np.exp(rng.normal(np.log(0.02), 1.0, pixels))
    hot = rng.random(pixels) < 0.05
    rate[hot] = np.exp(rng.uniform(np.log(0.1), np.log(50.0), int(hot.sum())))
    b = rng.normal(0.100, 0.006, pixels)
    gamma = rng.normal(1.0, 0.02, pixels)
    out = np.empty((temperature.size, pixels), np.float32)
    for k, (c, s) in enumerate(zip(temperature, exposure, strict=True)):
        signal = rate * s**gamma * np.exp(b * (c - temperature.min()))
        out[k] = signal + rng.normal(0, 1, pixels) * np.sqrt((READ_NOISE_ADU**2 + signal / GAIN) / FRAMES)
    out[out > TOP] = np.nan
    return out


class Scene:
    """Masters of a model, as the fit wants them, with what the population tells."""

    def __init__(self, model: Model, signal: F4) -> None:
        self.temperature, self.exposure = design()
        n, pixels = signal.shape
        self.unit = make_unit(model, "", tuple(range(n)), self.temperature, self.exposure, -5.0, 1.12)
        self.problem: Problem = problem_for(model, self.temperature, self.exposure, self.unit.fit_reference)
        self.cells = Cells(
            signal, np.where(np.isfinite(signal), FRAMES, 0).astype(np.uint16),
            np.full(pixels, READ_NOISE_ADU**2, np.float32), GAIN, np.zeros(n), np.zeros(n),
            np.zeros(n, np.int64), np.full((1, pixels), 1e-6, np.float32),
        )  # fmt: skip
        sample = self.cells.at(np.arange(0, pixels, max(1, pixels // 40_000)))
        found = estimate_population(self.problem, sample)
        self.population: Population = with_shape_prior(self.problem, sample, found)
        self.prior: Prior
        self.prior, self.start = prior_of(self.problem, self.population, self.cells)

    def fit(self, leave_out: bool = False) -> Fitted:
        """All pixels."""
        wanted = np.full(self.cells.count.shape[0], leave_out)
        return fit_tile(self.problem, self.cells, self.prior, self.start, wanted)


def on_core(work: Callable[[], object]) -> float:
    """Seconds of this thread on its core, whatever else runs."""
    return best(work, ROUNDS, time.thread_time)


def floor(signal: F4) -> float:
    """Seconds to copy masters and results, once."""
    results = np.zeros((11, signal.shape[1]))
    return on_core(lambda: (signal.copy(), results.copy()))


def peers_exp_2d(signal: F4, quick: bool) -> dict[str, float]:
    """Seconds a pixel of curve_fit and, where it is installed, lmfit; weighted by the noise of the data."""
    temperature, exposure = design()
    axes = np.stack([exposure, temperature - temperature.min()])

    def law(x: np.ndarray, a: float, gamma: float, b: float) -> np.ndarray:
        return np.asarray(a * x[0] ** gamma * np.exp(b * x[1]))

    def by_curve_fit(y: np.ndarray, known: np.ndarray, sigma: np.ndarray) -> None:
        curve_fit(law, axes[:, known], y[known], p0=[0.02, 1.0, 0.1], sigma=sigma[known], absolute_sigma=True,
                  maxfev=2000)  # fmt: skip

    found = {"curve_fit": _a_pixel(by_curve_fit, signal, 100 if quick else 600)}
    try:
        import lmfit
    except ImportError:
        return found
    model = lmfit.Model(lambda x0, x1, a, gamma, b: law(np.stack([x0, x1]), a, gamma, b), independent_vars=["x0", "x1"])

    def by_lmfit(y: np.ndarray, known: np.ndarray, sigma: np.ndarray) -> None:
        x = axes[:, known]
        model.fit(y[known], x0=x[0], x1=x[1], a=0.02, gamma=1.0, b=0.1, weights=1.0 / sigma[known])

    return found | {"lmfit": _a_pixel(by_lmfit, signal, 30 if quick else 150)}


def peers_linear(scene: Scene, quick: bool) -> dict[str, float]:
    """Seconds a pixel of numpy's least squares in a loop."""
    columns = scene.problem.design[:2].T

    def by_lstsq(y: np.ndarray, known: np.ndarray, sigma: np.ndarray) -> None:
        weighted = columns[known] / sigma[known, None]
        np.linalg.lstsq(weighted, y[known] / sigma[known], rcond=None)
        np.linalg.inv(weighted.T @ weighted)

    return {"numpy lstsq": _a_pixel(by_lstsq, scene.cells.signal_adu, 500 if quick else 4000)}


def _a_pixel(fit: Callable[[np.ndarray, np.ndarray, np.ndarray], None], signal: F4, pixels: int) -> float:
    begin = time.thread_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for y in signal[:, :pixels].T.astype(float):
            sigma = np.sqrt((READ_NOISE_ADU**2 + np.maximum(y, 0) / GAIN) / FRAMES)
            try:
                fit(y, np.isfinite(y), sigma)
            except (RuntimeError, ValueError):
                continue
    return (time.thread_time() - begin) / pixels


def kernels(quick: bool) -> list[Line]:
    """Both models, with covariance and chi², and cells left out; seconds a pixel."""
    pixels = 1 << (16 if quick else 19)
    signal = masters(pixels)
    copied = floor(signal) / pixels
    exp_2d, linear = Scene(EXP_2D, signal), Scene(TWO_COMPONENT, signal)
    fitted, left_out = on_core(exp_2d.fit) / pixels, on_core(lambda: exp_2d.fit(True)) / pixels
    others = peers_exp_2d(signal, quick)
    straight = on_core(linear.fit) / pixels
    ratio = others["curve_fit"] / fitted
    return [
        Line("fit exp_2d, 25 cells, a pixel", fitted, others, copied, f"{RATIO:.0f} × curve_fit", ratio >= RATIO,
             "kernel, one core, with covariance and chi²"),
        Line("the same with each cell left out", left_out, {"the fit": fitted}, copied, "under 3 × the fit alone",
             left_out < LEFT_OUT * fitted, "fit and 25 predictions"),
        Line("fit two_component, 25 cells, a pixel", straight, peers_linear(linear, quick), copied,
             f"{LINEAR_US:g} µs", straight < LINEAR_US * 1e-6, "weights follow the model: three passes"),
    ]  # fmt: skip


def written(folder: Path, side: int) -> tuple[UnitFiles, list[Path], Path]:
    """Masters of a sensor on disk, and a mask."""
    temperature, exposure = design()
    reference = ReferenceValues(1.0, READ_NOISE_ADU, GAIN, "header", TOP, 0.0, -5.0)
    cells = [
        Cell(f"cell{k}", float(t), 0.03, float(s), FRAMES, f"T{t:g}")
        for k, (t, s) in enumerate(zip(temperature, exposure, strict=True))
    ]
    rows = [masters(side * 64, seed).reshape(-1, 64, side) for seed in range(side // 64)]
    paths = []
    for k, cell in enumerate(cells):
        image = np.concatenate([band[k] for band in rows])
        made = Master.empty(image.shape)
        made.science[:] = image
        made.error[:] = np.sqrt((READ_NOISE_ADU**2 + np.maximum(np.nan_to_num(image), 0) / GAIN) / FRAMES)
        made.bias_error[:] = READ_NOISE_ADU / np.sqrt(FRAMES)
        made.count[:] = FRAMES
        for plane in (made.dq, made.rejected, made.chi2, made.scatter):
            plane[:] = 0
        paths.append(folder / f"{cell.name}.fits")
        write_frame(paths[-1], master_frame(made, [], [], frames=FRAMES, bias=True))
    mask = folder / "mask.fits"
    write_frame(mask, Frame(np.zeros((side, side), np.uint8), dq=np.zeros((side, side), np.uint16)))
    return UnitFiles("exp_2d", "", cells, reference, 1.12), paths, mask


def disk_to_disk(quick: bool) -> list[Line]:
    """From masters on disk to maps on disk, as step 5 does it (held-out errors included), on two threads."""
    side = 512 if quick else 2048
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files, paths, mask = written(folder, side)
        scene = Scene(EXP_2D, masters(40_000))
        population, shape = scene.population, (side, side)

        def fit(rows: slice) -> Path:
            pixels = (rows.stop - rows.start) * side
            level = Saturation(np.full(pixels, np.nan, np.float32), np.zeros(pixels, np.uint8), TOP)
            tile = folder / f"tile_{rows.start}.npz"
            write_tile(tile, fit_band(files, paths, None, mask, population, level, rows, 0))
            return tile

        def work() -> None:
            with ThreadPoolExecutor(2) as pool:
                tiles = list(pool.map(fit, tile_bands(shape, len(files.cells))))
                rows = count_rows(tiles)
                maps = [*(p.name for p in files.unit.model.parameters), "covariance", "chi2", "status"]
                targets = {name: folder / f"map_{name}.fits" for name in maps}
                made = pool.submit(write_maps, targets, files, tiles, rows)
                held_out(files, read_sums(tiles))
                made.result()

        taken = best(work, 2, time.perf_counter, lambda: [*folder.glob("tile_*.npz"), *folder.glob("map_*.fits")])
        size = sum(p.stat().st_size for p in paths)
        written_bytes = sum(p.stat().st_size for p in folder.glob("map_*.fits"))
        copy = folder / "copy"

        def copied() -> None:
            for path in paths:
                path.read_bytes()
            copy.write_bytes(bytes(written_bytes))

        floor_s = best(copied, 2, time.perf_counter, lambda: [copy])
    target = "" if quick else f"{DISK_S:g} s"
    note = f"{size / 1e9:.2f} GB in, {written_bytes / 1e9:.2f} GB out, held-out errors of all cells included, 2 threads"
    return [
        Line(f"exp_2d, 25 cells of {side}², disk to disk", taken, {}, floor_s, target,
             None if quick else taken < DISK_S, note)
    ]  # fmt: skip


def em_maps(quick: bool, interpreter: str | None) -> list[Line]:
    """Noise maps of an EM-CCD from frames in memory, beside corgidrp."""
    side = 256 if quick else noise_maps.SIDE
    rng = np.random.default_rng(2)
    stacks = noise_maps.simulate(
        rng, noise_maps.truth_maps(rng, side), [noise_maps.FRAMES] * len(noise_maps.GRID), 0.01
    )
    own = best(lambda: noise_maps.ours(stacks, side), 3, time.process_time) / side**2
    others: dict[str, float] = {}
    if interpreter:
        with tempfile.TemporaryDirectory() as folder:
            reference = noise_maps.Reference(interpreter, Path(folder), side)
            reference.load(stacks)
            taken = min(reference.ask("calibrate", weighting=True)["cpu_seconds"] for _ in range(1 if quick else 2))
            others["corgidrp"] = taken / side**2
    passed = others["corgidrp"] / own >= NOISE_RATIO if others else None
    note = f"{len(stacks)} stacks of {noise_maps.FRAMES} frames, end to end"
    return [Line("noise maps, a pixel", own, others, None, f"{NOISE_RATIO:g} × corgidrp", passed, note)]


def lines(quick: bool) -> list[Line]:
    """Lines of the table of `benchmarks/run.py`."""
    return [*kernels(quick), *disk_to_disk(quick), *em_maps(quick, os.environ.get(CORGIDRP))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer pixels")
    parser.add_argument("--corgidrp-python", metavar="PYTHON", help="interpreter of an environment with corgidrp")
    options = parser.parse_args(arguments)
    if options.corgidrp_python:
        os.environ[CORGIDRP] = options.corgidrp_python
    found = lines(options.quick)
    print(markdown(found))
    return 1 if any(line.passed is False for line in found) else 0


if __name__ == "__main__":
    sys.exit(main())
