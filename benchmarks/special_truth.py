"""Pixels that are not linear in exposure, and pixels that fill up: campaigns of known truth, and what is found."""

from __future__ import annotations

import datetime
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy import constants

from benchmarks.common import Verdict, print_verdicts, run_pipeline

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

GAIN, READ_NOISE_E, LEVEL_ADU, TOP_ADU = 1.0, 6.0, 1000.0, 65535
CELLS = tuple((t, s) for t in (0.0, -5.0, -10.0) for s in (10.0, 30.0, 100.0, 300.0))
DEVIATIONS = (0.0, 3.0, 5.0, 7.0, 9.0, 12.0, 20.0, 1e9)
SURE = 12.0  # sigmas of deviation from which on nine in ten must be found
LINEAR, CURVED, POWER, TELEGRAPH = 0, 1, 2, 3
SATURATED, UNSTABLE, NONLINEAR, OUTLIER = 8, 16, 32, 1 << 12


@dataclass
class Campaign:
    """Truth of a campaign: the kind of each pixel, and what it accumulates in each cell, (cells, size, size) [e-].

    full_well_e : charge at which all pixels stop. shared : of each frame's step of telegraph pixels [e-], drawn anew.
    """

    kind: NDArray[np.int64]
    linear_e: Array
    signal_e: Array
    frames: int
    full_well_e: float

    def sigma_e(self, biases: int) -> Array:
        """1 sigma of a master, with its bias."""
        return np.sqrt((READ_NOISE_E**2 + self.signal_e) / self.frames + READ_NOISE_E**2 / biases)

    def deviation(self, biases: int) -> Array:
        """How far a pixel is from any linear one, in sigmas over all cells: distance from t (G a(T) + D b(T))."""
        columns = np.stack(
            [[s * activated(t, 0.56, 1.5) for t, s in CELLS], [s * activated(t, 1.12, 3.0) for t, s in CELLS]]
        )
        weight = 1.0 / self.sigma_e(biases).reshape(len(CELLS), -1).T
        design = columns.T[None] * weight[:, :, None]
        y = self.signal_e.reshape(len(CELLS), -1).T * weight
        normal = np.einsum("pki,pkj->pij", design, design)
        best = np.linalg.solve(normal, np.einsum("pki,pk->pi", design, y)[:, :, None])[:, :, 0]
        rest = y - np.einsum("pki,pi->pk", design, best)
        return np.asarray(np.sqrt((rest**2).sum(axis=1)).reshape(self.kind.shape))


def activated(t_c: float, energy_ev: float, power: float) -> float:
    """Rate over that at 0 °C."""
    kelvin, zero = t_c + constants.zero_Celsius, constants.zero_Celsius
    boltzmann = constants.k / constants.e
    return float((kelvin / zero) ** power * np.exp(-energy_ev / boltzmann * (1 / kelvin - 1 / zero)))


def make(folder: Path, size: int, seed: int, frames: int, biases: int, full_well_e: float, special: bool) -> Campaign:
    """Write the frames: one pixel in ten is hot; of the hot ones, if `special`, some are of each other kind."""
    rng = np.random.default_rng([seed, 21])
    shape = (size, size)
    hot = rng.random(shape) < 0.1
    excess = np.where(hot, 10 ** rng.uniform(0.0, 2.6, shape), 0.0)
    bulk = 0.35 * np.exp(rng.normal(0, 0.25, shape))
    kind = np.where(hot & special, rng.choice(4, shape, p=(0.7, 0.1, 0.1, 0.1)), LINEAR)
    linear = np.stack([
        s * (excess * activated(t, 0.56, 1.5) + bulk * activated(t, 1.12, 3.0)) for t, s in CELLS
    ])  # fmt: skip
    longest = max(s for _, s in CELLS)
    bend = 10 ** rng.uniform(-2.5, -0.5, shape) / linear.max(axis=0)  # S loses 0.3 to 30 % where it is largest
    power = rng.uniform(1.01, 1.25, shape)
    curved = linear * (1.0 - bend * linear)
    stretched = np.stack([linear[k] * (s / longest) ** (power - 1.0) for k, (_, s) in enumerate(CELLS)])
    signal = np.select([kind == CURVED, kind == POWER], [curved, stretched], linear)
    out = Campaign(kind, linear, np.minimum(signal, full_well_e), frames, full_well_e)
    step = 10.0 * np.sqrt(READ_NOISE_E**2 + linear[CELLS.index((0.0, longest))])
    write(folder, out, step, biases, rng)
    return out


def write(folder: Path, campaign: Campaign, step_e: Array, biases: int, rng: np.random.Generator) -> None:
    """The frames. step_e : of telegraph pixels in the brightest cell."""
    folder.mkdir(parents=True)
    shape = campaign.kind.shape
    bias = LEVEL_ADU + rng.normal(0, 2, shape)
    clock = datetime.datetime(2025, 3, 1, 20, 0, 0)
    flicker = campaign.kind == TELEGRAPH
    number = 0

    def save(image: Array, kind: str, t_c: float, t_s: float) -> None:
        nonlocal number, clock
        number += 1
        clock += datetime.timedelta(seconds=t_s + 5)
        cards = {
            "IMAGETYP": kind, "EXPTIME": t_s, "CCD-TEMP": t_c, "SET-TEMP": t_c, "GAIN": 100, "OFFSET": 50,
            "EGAIN": GAIN, "XBINNING": 1, "YBINNING": 1, "INSTRUME": "Special", "DATE-OBS": clock.isoformat(),
        }  # fmt: skip
        native = np.rint(image / GAIN + bias + rng.normal(0, READ_NOISE_E, shape) / GAIN)
        fits.PrimaryHDU(np.clip(native, 0, TOP_ADU).astype(np.uint16), fits.Header(cards)).writeto(
            folder / f"frame_{number:04d}.fits"
        )

    for k, (t_c, t_s) in enumerate(CELLS):
        charge = step_e * t_s / 300.0 * activated(t_c, 0.56, 1.5)
        for _ in range(campaign.frames):
            extra = np.where(flicker & (rng.random(shape) < 0.5), charge, 0.0)
            # a full pixel holds what it holds: shot noise is that of the charge that came
            save(np.minimum(rng.poisson(campaign.signal_e[k] + extra), campaign.full_well_e), "Dark Frame", t_c, t_s)
    for t_c in sorted({t for t, _ in CELLS}):
        for _ in range(biases):
            save(np.zeros(shape), "Bias Frame", t_c, 0.0)


def fitted(folder: Path) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.int64]]:
    """Run up to the fit of `two_component`: bits of the mask, bits of the fit, and degrees of freedom."""
    places = ("--basepath", folder / "raw", "--output_dir", folder / "out")
    run_pipeline("--mode", "full", *places, "--model", "two_component", "--until_step", 5, "--quiet")
    model = folder / "out" / "dark_model"
    mask = fits.getdata(model / "hot_pixel_mask.fits", "DQ").astype(np.uint16)
    bits = fits.getdata(model / "two_component" / "G_map.fits", "DQ").astype(np.uint16)
    dof = fits.getdata(model / "two_component" / "chi2_map.fits", "DOF").astype(np.int64)
    return mask, bits, dof


def nonlinear(quick: bool) -> bool:
    """Non-linear and telegraph pixels of which each cell has two frames, told from the residuals of the fit."""
    size, frames, biases = (192 if quick else 384), 2, 10
    with tempfile.TemporaryDirectory() as folder:
        campaign = make(Path(folder) / "raw", size, 5, frames, biases, 5e4, special=True)
        mask, bits, _ = fitted(Path(folder))
    bent, shaky = (bits & NONLINEAR) != 0, (bits & UNSTABLE) != 0
    deviation = campaign.deviation(biases)
    clear = campaign.signal_e.max(axis=0) < 0.8 * campaign.full_well_e
    print("\nnon-linear pixels: called non-linear (unstable), by their distance from linear in sigmas")
    for name, kind in (("S = rt (1 - c rt)", CURVED), ("t^p", POWER)):
        row = []
        for low, high in pairwise(DEVIATIONS):
            some = clear & (campaign.kind == kind) & (deviation >= low) & (deviation < high)
            if some.sum() >= 5:
                row.append(f"{low:g}+: {bent[some].mean():.2f} ({shaky[some].mean():.2f}) of {some.sum()}")
        print(f"  {name:<18} " + ", ".join(row))
    far = clear & ((campaign.kind == CURVED) | (campaign.kind == POWER)) & (deviation >= SURE)
    flicker = clear & (campaign.kind == TELEGRAPH)
    linear = clear & (campaign.kind == LINEAR)
    hot = linear & (campaign.linear_e.max(axis=0) > 1000.0)
    verdicts = [
        _share(f"non-linear by {SURE:g} sigmas or more ({far.sum()}), found", bent[far], 0.9),
        _share("of these, called unstable", shaky[far], None),
        _share(f"telegraphs ({flicker.sum()}), called unstable", shaky[flicker], None),
        _share("telegraphs, called either", (shaky | bent)[flicker], None),
        _share("telegraphs, called unstable by frames or fit", (((mask | bits) & UNSTABLE) != 0)[flicker], None),
        _none(f"linear pixels ({linear.sum()}) called non-linear", bent[linear]),
        _none("linear pixels called unstable by the fit", shaky[linear]),
        _none(f"linear hot pixels ({hot.sum()}) called non-linear", bent[hot]),
    ]
    return print_verdicts("non-linear pixels, 12 cells of 2 frames", verdicts)


def saturated(quick: bool) -> bool:
    """Pixels that fill up below the converter's top, and others that reach the top."""
    passed = True
    for well in (4e4, 1e9):
        with tempfile.TemporaryDirectory() as folder:
            campaign = make(Path(folder) / "raw", 192 if quick else 384, 6, 4, 10, well, special=False)
            mask, bits, dof = fitted(Path(folder))
        limit = min(well, (TOP_ADU - LEVEL_ADU) * GAIN)
        # within 10 % below the level a cell may be left out or not
        full, open_cells = campaign.linear_e >= 1.02 * limit, campaign.linear_e < 0.9 * limit
        left_out = len(CELLS) - 2 - dof
        some = full.any(axis=0)
        fits_at_all = (~full).sum(axis=0) > 2
        told = (mask & SATURATED) != 0
        sound = open_cells.all(axis=0)
        judged = some & fits_at_all
        counts = full.sum(axis=0)
        unsure = len(CELLS) - counts - open_cells.sum(axis=0)
        outlier = (bits & OUTLIER) != 0
        kept_too_many = left_out[judged] < counts[judged]
        took_too_many = (left_out > counts + unsure) & judged & ~outlier
        name = "converter's top" if well > 1e6 else f"full well of {well:g} e-"
        verdicts = [
            _share(f"pixels with a full cell ({some.sum()}), called saturated", told[some], 0.99),
            _none("of these, with a full cell in the fit", kept_too_many, 0.01),
            _none("of these, without a cell that was not full", took_too_many[judged], 0.01),
            _none(f"other pixels ({sound.sum()}) called saturated", told[sound], 0.0),
            _none("other pixels with a cell left out", (left_out > 0)[sound & ~outlier], 0.0),
        ]
        passed &= print_verdicts(f"saturation, {name}", verdicts)
    return passed


def _share(what: str, found: Bools, least: float | None) -> Verdict:
    value = float(np.mean(found)) if found.size else float("nan")
    target = "" if least is None else f">= {least:.0%}"
    return Verdict(what, f"{value:.1%}", target, None if least is None else value >= least)


def _none(what: str, wrong: Bools, most: float = 1e-3) -> Verdict:
    n = wrong.size
    allowed = most * n + 3.0 * np.sqrt(most * n)
    return Verdict(what, f"{wrong.mean() if n else 0:.3%}", f"<= {most:.1%}", bool(wrong.sum() <= allowed))
