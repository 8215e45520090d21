"""Errors of noise maps in pixels from ordinary to hot, with every stack and without the brightest.

``python benchmarks/noise_map_pixels.py`` simulates 6 stacks of 10 frames in which one pixel in fifty (`--warm`) has a
dark current above that of the population, in steps, and prints the spread of (D - truth) / error of each step: with
Gaussian noise of the register's variance, and with Poisson electrons multiplied by a register. Judged are ordinary
pixels, and those from 0.05 e-/s on, which stand clear of the population without the brightest stack too. Between the
two a pixel cannot be told from an ordinary one that came out high: its error is that of the population, and too small.
Where many pixels are such, they belong to what the noise of the population is measured on, and errors of ordinary ones
come out too large.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import Verdict, print_verdicts
from benchmarks.noise_maps import FRAMES, GRID, READ_NOISE_E, regions, simulate, truth_maps
from darkpipe.science.noise_maps import NoiseMapCalibration, NoiseMaps

STEPS_E_PER_S = (0.003, 0.005, 0.01, 0.02, 0.05, 0.2)
TOLD_E_PER_S = 0.05
BRIGHTEST = 4
SHARE, SPREAD = 0.02, 0.05


def register(rng: np.random.Generator, truth: np.ndarray, g: float, t: float) -> np.ndarray:
    """Frames of a stack of Poisson electrons, each multiplied by an exponential number."""
    shape = (FRAMES, *truth.shape[1:])
    there = rng.poisson(truth[1] + t * truth[2], shape)
    out = g * (rng.standard_gamma(np.maximum(there, 1)) * (there > 0) if g > 1 else there)
    return np.asarray(truth[0] + out + READ_NOISE_E * rng.standard_normal(shape))


def maps_of(stacks: Sequence[np.ndarray], side: int, masked: np.ndarray | None) -> NoiseMaps:
    """Fitted; `masked` pixels lack the brightest stack."""
    calibration = NoiseMapCalibration(regions(side))
    for i, (frames, (g, t)) in enumerate(zip(stacks, GRID, strict=True)):
        mask = np.broadcast_to(masked, frames.shape) if masked is not None and i == BRIGHTEST else None
        calibration.add(frames, g, t, mask)
    return calibration.fit()


def judged(maps: NoiseMaps, truth: np.ndarray, where: np.ndarray) -> list[Verdict]:
    """Spread of the pulls of D by true dark current, in the pixels `where`."""
    error = np.where(maps.dark_error_e_per_s > 0, maps.dark_error_e_per_s, np.nan)  # 0 where no dark current collects
    pulls = (maps.dark_e_per_s - truth[2]) / error
    verdicts = []
    for level in (1e-3, *STEPS_E_PER_S):
        chosen = pulls[where & (truth[2] == level)]
        spread = float(np.sqrt(np.nanmean(np.square(chosen))))
        counts = level == 1e-3 or level >= TOLD_E_PER_S
        passed = abs(spread - 1) <= SPREAD if counts else None
        target = f"1.00 +- {SPREAD:g}" if counts else ""
        verdicts.append(Verdict(f"D = {level:g} e-/s, {chosen.size} pixels", f"{spread:.3f}", target, passed))
    return verdicts


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where every target was met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--side", type=int, default=1024, help="rows and columns of a frame")
    parser.add_argument("--warm", type=float, default=SHARE, help="share of pixels above the population")
    given = parser.parse_args(arguments)
    side = given.side
    rng = np.random.default_rng(3)
    truth = truth_maps(rng, side)
    inside = np.zeros((side, side), np.bool_)
    inside[regions(side).collecting.slices] = True
    warm = inside & (rng.random((side, side)) < given.warm)
    truth[2][warm] = rng.choice(STEPS_E_PER_S, (side, side))[warm]
    lacking = rng.random((side, side)) < 0.5
    fine = True
    for noise in ("Gaussian", "register"):
        if noise == "Gaussian":
            stacks = [frames for frames, _ in simulate(rng, truth, [FRAMES] * len(GRID), 0.0)]
        else:
            stacks = [register(rng, truth, g, t) for g, t in GRID]
        maps = maps_of(stacks, side, lacking)
        for where, title in ((inside & ~lacking, "every stack"), (inside & lacking, "without the brightest stack")):
            fine &= print_verdicts(f"{noise}, {title}: spread of the pulls of D", judged(maps, truth, where))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
