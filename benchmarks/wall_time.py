"""Wall time and peak memory of ``full`` on the real set, of an unchanged re-run, and of peers in the same run.

``python benchmarks/wall_time.py`` runs once to fill the caches of compiled kernels and of the disk, then measures a
fresh output directory, a re-run, and the combine and fit steps alone; the peers do the same two tasks on the same
frames (scipy's ``curve_fit`` pixel by pixel on a sample, ``ccdproc.combine`` where it is installed).
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import Run, Verdict, print_verdicts, real_data, run_pipeline

FULL_S, FULL_MB, AGAIN_S = 30.0, 1000.0, 2.0
GAIN_E_PER_ADU, READ_NOISE_ADU = 2.06, 6.7
Masters = dict[tuple[float, float], NDArray[np.float64]]
Groups = dict[tuple[str, float, float], list[Path]]


def pipeline(frames: Path, output_dir: Path, *more: object) -> Run:
    """One call of ``full``."""
    return run_pipeline("--mode", "full", "--basepath", frames, "--output_dir", output_dir, *more)


def staged(frames: Path, output_dir: Path) -> dict[str, float]:
    """Seconds of the master darks and of the fit, each net of a call that finds nothing to do."""
    times = {}
    for name, before, until in (("combine", 2, 3), ("fit", 4, 5)):
        pipeline(frames, output_dir, "--until_step", before)
        idle = pipeline(frames, output_dir, "--until_step", before).seconds
        times[name] = max(pipeline(frames, output_dir, "--until_step", until).seconds - idle, 1e-3)
    return times


def grouped(frames: Path) -> Groups:
    """The set's frames by (kind, set point, exposure); its headers are all of one kind."""
    groups: Groups = {}
    for path in sorted(p for p in frames.rglob("*") if p.suffix.lower() in (".fit", ".fits")):
        header = fits.getheader(path)
        kind = "bias" if "bias" in str(header["IMAGETYP"]).lower() else "dark"
        groups.setdefault((kind, float(header["SET-TEMP"]), float(header["EXPTIME"])), []).append(path)
    return groups


def masters_of(groups: Groups) -> Masters:
    """Plain means of the darks minus plain means of the biases of their temperature."""
    stacks = {key: np.mean([fits.getdata(p) for p in paths], axis=0, dtype=float) for key, paths in groups.items()}
    bias = {t_c: data for (kind, t_c, _), data in stacks.items() if kind == "bias"}
    return {(t_c, t_s): d - bias[t_c] for (kind, t_c, t_s), d in stacks.items() if kind == "dark" and t_c in bias}


def curve_fit_s(masters: Masters, n_pixels: int) -> float:
    """Seconds that scipy's curve_fit takes for the whole image, from a random sample of pixels on one core."""
    from scipy.optimize import OptimizeWarning, curve_fit

    cells = [cell for cell in masters if cell[0] <= 0]
    x = np.array(cells).T - np.array([[min(c[0] for c in cells)], [0.0]])
    data = np.stack([masters[cell].ravel() for cell in cells])
    chosen = np.random.default_rng(0).choice(data.shape[1], n_pixels, replace=False)

    def law(where: NDArray[np.float64], a: float, b: float, gamma: float) -> NDArray[np.float64]:
        return np.asarray(a * where[1] ** gamma * np.exp(b * where[0]))

    start = time.perf_counter()
    for pixel in chosen:
        y = data[:, pixel]
        sigma = np.sqrt(READ_NOISE_ADU**2 + np.maximum(y, 0) / GAIN_E_PER_ADU)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                curve_fit(law, x, y, p0=(0.1, 0.12, 1.0), sigma=sigma, absolute_sigma=True, maxfev=2000)
            except RuntimeError:
                continue
    return float((time.perf_counter() - start) / n_pixels * data.shape[1])


def ccdproc_s(groups: Groups) -> float | None:
    """Seconds of ccdproc.combine (sigma clipped mean) for every cell of several frames; None if not installed."""
    if importlib.util.find_spec("ccdproc") is None:
        return None
    import ccdproc
    from astropy.nddata import CCDData

    start = time.perf_counter()
    for (kind, _, _), paths in groups.items():
        if kind == "dark":
            images = [CCDData(fits.getdata(p).astype(np.float32), unit="adu") for p in paths]
            if len(images) > 1:
                ccdproc.combine(images, method="average", sigma_clip=True, mem_limit=2e9)
    return time.perf_counter() - start


def numpy_s(groups: Groups) -> float:
    """Seconds to read every dark and take numpy medians, cell by cell."""
    start = time.perf_counter()
    for (kind, _, _), paths in groups.items():
        if kind == "dark":
            np.median([fits.getdata(p) for p in paths], axis=0)
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=Path, default=real_data() / "stl1001e_sbu_dev")
    parser.add_argument("--pixels", type=int, default=1000, help="sample for curve_fit")
    parser.add_argument("--no_peers", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        first = pipeline(options.frames, folder / "first")
        full = pipeline(options.frames, folder / "out")
        again = pipeline(options.frames, folder / "out")
        verdicts = [
            Verdict("full, first run (caches as they were)", f"{first.seconds:.2f} s"),
            Verdict("full, warm", f"{full.seconds:.2f} s", f"< {FULL_S:.0f} s", full.seconds < FULL_S),
            Verdict("  CPU", f"{full.cpu_seconds:.2f} s"),
            Verdict("  peak memory", f"{full.peak_mb:.0f} MB", f"< {FULL_MB:.0f} MB", full.peak_mb < FULL_MB),
            Verdict("unchanged re-run", f"{again.seconds:.2f} s", f"< {AGAIN_S:.0f} s", again.seconds < AGAIN_S),
        ]
        if not options.no_peers:
            verdicts += peers(options.frames, folder / "staged", options.pixels)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    verdicts.append(Verdict("all runs, CPU", f"{children.ru_utime + children.ru_stime:.1f} s"))
    return 0 if print_verdicts(f"{options.frames.name}", verdicts) else 1


def peers(frames: Path, output_dir: Path, n_pixels: int) -> list[Verdict]:
    """The two heavy steps beside others that do the same work on the same frames."""
    ours = staged(frames, output_dir)
    groups = grouped(frames)
    verdicts = [
        Verdict("master darks (read, combine, write)", f"{ours['combine']:.2f} s"),
        Verdict("fits, all models, held-out errors, maps", f"{ours['fit']:.2f} s"),
    ]
    for name, seconds, step in (
        ("numpy median of the darks", numpy_s(groups), "combine"),
        ("ccdproc.combine of the darks", ccdproc_s(groups), "combine"),
        ("scipy curve_fit, exp_2d alone, no held-out", curve_fit_s(masters_of(groups), n_pixels), "fit"),
    ):
        if seconds is None:
            verdicts.append(Verdict(name, "not installed"))
        else:
            verdicts.append(Verdict(name, f"{seconds:.2f} s", f"{seconds / ours[step]:.1f} x ours"))
    return verdicts


if __name__ == "__main__":
    sys.exit(main())
