"""Noise maps of an EM-CCD beside the reference implementation, corgidrp 5.1.1, in the same run.

``python benchmarks/noise_maps.py --corgidrp-python ENV/bin/python`` where ENV is an environment of its own with
``pip install corgidrp==5.1.1``. Printed: time of both in alternating runs, how far the results agree where the
reference is right (equal stacks, equal weights), and how both recover the truth where it is not: a stack that is masked
throughout in some pixels, and stacks of unequal numbers of frames. ``--full-size`` instead fits 49 stacks of 30 frames
of 1200 x 2200 pixels and prints time and peak memory; it needs no corgidrp.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import Verdict, print_verdicts
from darkpipe.science.em_darks import synthesised_dark, traditional_dark
from darkpipe.science.masked_mean import masked_mean
from darkpipe.science.noise_levels import excess_noise2
from darkpipe.science.noise_maps import NoiseMapCalibration, NoiseMapOptions, NoiseMaps
from darkpipe.science.regions import ROMAN_CORONAGRAPH, Area, DetectorRegions

SIDE, FRAMES = 1024, 10
GRID = ((1.0, 2.0), (1.0, 100.0), (100.0, 100.0), (1000.0, 2.0), (1000.0, 100.0), (100.0, 30.0))
UNEQUAL = (10, 40, 2, 30, 5, 20)
READ_NOISE_E, STAGES = 100.0, 604
WARM_E_PER_S = 0.05
AGREE, RATIO = 1e-5, 5.0
LIKE_CORGIDRP = {"negatives": "zero", "k_gain_e_per_dn": 7.0}
Stack = tuple[np.ndarray, np.ndarray]


def regions(side: int) -> DetectorRegions:
    """A small frame with every kind of region."""
    return DetectorRegions(
        side, side, image=Area(20, 64, side - 44, side - 80), active=Area(0, 64, side - 24, side - 80),
        prescan=Area(0, 0, side, 64), telemetry_rows=(-1, None),
    )  # fmt: skip


def corgidrp_regions(side: int) -> dict[str, Any]:
    """The same in corgidrp's words."""
    return {
        "SCI": {
            "frame_rows": side,
            "frame_cols": side,
            "image": {"rows": side - 44, "cols": side - 80, "r0c0": [20, 64]},
            "prescan": {"rows": side, "cols": 64, "r0c0": [0, 0]},
            "parallel_overscan": {"rows": 24, "cols": side - 64, "r0c0": [side - 24, 64]},
            "serial_overscan": {"rows": side, "cols": 16, "r0c0": [0, side - 16]},
        }
    }


def truth_maps(rng: np.random.Generator, side: int) -> np.ndarray:
    """(3, side, side) F [e-], C [e-] and D [e-/s], no dark current outside the active area."""
    dark = np.zeros((side, side))
    dark[regions(side).collecting.slices] = 1e-3
    return np.stack([rng.normal(20.0, 5.0, (side, side)), np.full((side, side), 0.02), dark])


def simulate(rng: np.random.Generator, truth: np.ndarray, counts: Sequence[int], cosmics: float) -> list[Stack]:
    """Frames and masks of each stack, Gaussian with the variance of the gain register."""
    out = []
    for (g, t), n in zip(GRID, counts, strict=True):
        events = truth[1] + t * truth[2]
        sigma = np.sqrt(READ_NOISE_E**2 + g * g * excess_noise2(np.float64(g), STAGES) * events)
        frames = truth[0] + g * events + sigma * rng.standard_normal((n, *sigma.shape))
        masks = (rng.random(frames.shape) < cosmics).astype(np.uint16) * 4
        frames[masks > 0] += 1e4
        out.append((frames, masks))
    return out


class Reference:
    """corgidrp in a process of its own."""

    def __init__(self, interpreter: str, folder: Path, side: int) -> None:
        worker = Path(__file__).with_name("corgidrp_worker.py")
        home = {**os.environ, "HOME": str(folder)}  # it writes a configuration there
        command = [interpreter, str(worker)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=home)
        self.folder, self.side = folder, side

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        """One request, its answer; RuntimeError where it died."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps({"op": op, **request}), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"corgidrp failed at {op}; its message stands above")
        return dict(json.loads(line))

    def load(self, stacks: Sequence[Stack]) -> None:
        """Hand frames over by files."""
        for i, (frames, masks) in enumerate(stacks):
            np.save(self.folder / f"frames{i}.npy", frames)
            np.save(self.folder / f"masks{i}.npy", masks)
        self.ask("load", folder=str(self.folder), grid=GRID, regions=corgidrp_regions(self.side))

    def maps(self, weighting: bool) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Its answer, and data (3, rows, cols), err and dq."""
        answer = self.ask("calibrate", weighting=weighting, save=str(self.folder / "maps.npz"))
        with np.load(self.folder / "maps.npz") as planes:
            return answer, dict(planes)

    def maps_of(self, stacks: Sequence[Stack]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Weighted, of other frames."""
        self.load(stacks)
        return self.maps(weighting=True)


def ours(stacks: Sequence[Stack], side: int, **options: Any) -> NoiseMaps:
    """The same with darkpipe."""
    calibration = NoiseMapCalibration(regions(side), NoiseMapOptions(**options))
    for (frames, masks), (g, t) in zip(stacks, GRID, strict=True):
        calibration.add(frames, g, t, masks)
    return calibration.fit()


def values(maps: NoiseMaps) -> np.ndarray:
    """(3, rows, cols) in the order of corgidrp's planes."""
    return np.stack([maps.fixed_e, maps.cic_e, maps.dark_e_per_s])


def errors(maps: NoiseMaps) -> np.ndarray:
    """(3, rows, cols) 1 sigma."""
    return np.stack([maps.fixed_error_e, maps.cic_error_e, maps.dark_error_e_per_s])


def difference(found: np.ndarray, expected: np.ndarray, sigma: np.ndarray) -> float:
    """Largest |found - expected| over the larger of |expected| and its own 1 sigma, since a value that noise has put
    next to 0 has no relative error."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.nanmax(np.abs(found - expected) / np.maximum(np.abs(expected), sigma)))


def agreement(reference: Reference, side: int, stacks: Sequence[Stack]) -> list[Verdict]:
    """Where the reference is right: equal stacks, equal weights, cosmic rays masked."""
    answer, theirs = reference.maps(weighting=False)
    maps = ours(stacks, side, weighting="equal", **LIKE_CORGIDRP)
    found, rows = values(maps), slice(0, side - 1)  # the last row is telemetry: NaN here, fitted to ones there
    verdicts = []
    for j, name in enumerate("FCD"):
        worst = difference(found[j, rows], theirs["data"][j, rows], theirs["err"][j, rows])
        verdicts.append(Verdict(f"agreement of {name}", f"{worst:.1e}", f"<= {AGREE:g}", worst <= AGREE))
    area = regions(side).collecting.slices
    for name, one, other in (
        ("mean of F", maps.summary["collecting"]["F"].mean, answer["FPN_IMM"]),
        # documented as taken before negative values are put to 0; it is taken after
        ("mean of C, negatives put to 0", float(maps.cic_e[area].mean(dtype=np.float64)), answer["CIC_IMM"]),
        ("mean of D", maps.summary["collecting"]["D"].mean, answer["DC_IMM"]),
    ):
        worst = abs(one / other - 1)
        verdicts.append(Verdict(f"agreement of the {name}", f"{worst:.1e}", f"<= {AGREE:g}", worst <= AGREE))
    # theirs counts the telemetry row with the prescan, as zeros; its error follows from that of the maps
    offsets = (
        f"{answer['B_O']:.5f} +- {answer['B_O_ERR']:.2f} / {maps.bias_offset.value:.5f} +- {maps.bias_offset.error:.2f}"
    )
    verdicts.append(Verdict("bias offset [DN], corgidrp / ours", offsets))
    return verdicts + darks_agree(reference, side, stacks, maps)


def darks_agree(reference: Reference, side: int, stacks: Sequence[Stack], maps: NoiseMaps) -> list[Verdict]:
    """The traditional dark of the first stack, and the dark of its setting from the maps."""
    (g, t), (frames, masks) = GRID[0], stacks[0]
    answer = reference.ask("dark", frames=len(frames), save=str(reference.folder / "dark.npz"))
    start = time.perf_counter()
    dark = traditional_dark(
        masked_mean(frames, masks), regions(side), em_gain=g, exposure_s=t, full_frame=True, scatter="pixel"
    )
    middle = time.perf_counter()
    made = synthesised_dark(maps, g, t, full_frame=True)
    end = time.perf_counter()
    with np.load(reference.folder / "dark.npz") as planes:
        rows = slice(0, side - 1)
        few = np.sqrt((len(frames) - (masks > 0).sum(axis=0) - 1) / (len(frames) - (masks > 0).sum(axis=0)))
        worst = [
            difference(dark.dark_e[rows], planes["dark"][rows], planes["error"][rows]),
            difference((dark.error_e * few)[rows], planes["error"][rows], np.zeros((side - 1, side))),
            difference(made.dark_e[rows], planes["made"][rows], planes["made_error"][rows]),
        ]
    names = ("traditional dark", "error of it, times sqrt((n-1)/n)", "synthesised dark")
    verdicts = [
        Verdict(f"agreement of the {name}", f"{w:.1e}", f"<= {AGREE:g}", w <= AGREE)
        for name, w in zip(names, worst, strict=True)
    ]
    for name, theirs, own in (
        ("traditional dark", answer["traditional_s"], middle - start),
        ("synthesised dark", answer["synthesised_s"], end - middle),
    ):
        verdicts.append(Verdict(f"time of the {name}, corgidrp / ours", f"{theirs:.2f} / {own:.3f} s"))
    return verdicts


def speed(reference: Reference, side: int, stacks: Sequence[Stack], rounds: int) -> list[Verdict]:
    """Alternating runs; the fastest of each counts. Ours fits with weights and full covariance, as by default."""
    ours(stacks, side)  # compiles
    taken: dict[str, list[tuple[float, float]]] = {"corgidrp": [], "ours": []}
    for _ in range(rounds):
        answer = reference.ask("calibrate", weighting=True)
        taken["corgidrp"].append((answer["seconds"], answer["cpu_seconds"]))
        start, cpu = time.perf_counter(), time.process_time()
        ours(stacks, side)
        taken["ours"].append((time.perf_counter() - start, time.process_time() - cpu))
    best = {name: (min(s for s, _ in times), min(c for _, c in times)) for name, times in taken.items()}
    pixels = side * side
    verdicts = [
        Verdict(f"{name}: wall, CPU", f"{s:.2f}, {c:.2f} s", f"{c / pixels * 1e6:.2f} us a pixel")
        for name, (s, c) in best.items()
    ]
    ratio = best["corgidrp"][0] / best["ours"][0]
    verdicts.append(Verdict("ratio of wall times", f"{ratio:.1f}", f">= {RATIO:g}", ratio >= RATIO))
    return verdicts


def fully_masked(reference: Reference, side: int, rng: np.random.Generator, cold: np.ndarray) -> list[Verdict]:
    """One pixel in fifty is masked in every frame of the stack of most signal; half of these are warm.

    With equal weights corgidrp takes such a stack for a sample of 0. In cold pixels that lies within the noise of a
    sample, and even helps; in warm ones it does not. With weights it gives it next to none, but its errors do not know.
    """
    truth = cold.copy()
    bad = np.zeros((side, side), np.bool_)
    bad[regions(side).collecting.slices] = rng.random((side - 24, side - 80)) < 0.02
    warm = bad & (np.cumsum(bad).reshape(bad.shape) % 2 == 0)
    truth[2][warm] = WARM_E_PER_S
    stacks = simulate(rng, truth, [FRAMES] * len(GRID), 0.0)
    frames, masks = stacks[4]
    masks[:, bad] = 4
    frames[:, bad] += 1e5
    reference.load(stacks)
    verdicts = []
    for weighting, title in ((True, "weighted"), (False, "equal weights")):
        _, theirs = reference.maps(weighting)
        maps = ours(stacks, side, weighting="noise" if weighting else "equal")
        for where, kind in ((bad & ~warm, "cold"), (warm, "warm")):
            verdicts += masked_verdicts(f"{title}, {kind}", theirs, maps, truth, where)
        flagged = [float((dq[bad] != 0).mean()) for dq in (theirs["dq"][0], maps.dq)]
        text = " / ".join(f"{100 * f:.0f} %" for f in flagged)
        verdicts.append(Verdict(f"{title}: flagged", text, "100 %", flagged[1] == 1.0))
    return verdicts


def masked_verdicts(
    title: str, theirs: dict[str, np.ndarray], maps: NoiseMaps, truth: np.ndarray, where: np.ndarray
) -> list[Verdict]:
    """Errors of the maps in these pixels."""
    verdicts = []
    for j, name in enumerate("FCD"):
        rms = [np.sqrt(np.nanmean(np.square(a))) for a in like_corgidrp(j, theirs["data"], maps, truth, where)]
        passed = bool(rms[1] < 1.01 * rms[0]) if title == "weighted, warm" else None
        target = "" if passed is None else "ours no larger"
        text = f"{rms[0]:.3g} / {rms[1]:.3g}"
        verdicts.append(Verdict(f"{title}, {name}: rms error, negatives put to 0", text, target, passed))
        away = [(v[j] - truth[j])[where] for v in (theirs["data"], values(maps))]
        pulls = [a / e[j][where] for a, e in zip(away, (theirs["err"], errors(maps)), strict=True)]
        spread = [float(np.sqrt(np.nanmean(np.square(p)))) for p in pulls]
        verdicts.append(spread_verdict(f"{title}, {name}: rms of pulls", *spread))
    return verdicts


def like_corgidrp(
    j: int, theirs: np.ndarray, maps: NoiseMaps, truth: np.ndarray, where: Any
) -> tuple[np.ndarray, np.ndarray]:
    """(value - truth) of both with negative C and D at 0, which makes small errors of either."""
    found = values(maps)[j][where]
    return theirs[j][where] - truth[j][where], (np.maximum(found, 0.0) if j else found) - truth[j][where]


def spread_verdict(what: str, theirs: float, own: float) -> Verdict:
    """Spread of (value - truth) / error of both; ours is judged."""
    return Verdict(f"{what}", f"{theirs:.2f} / {own:.3f}", "ours 1.00 +- 0.05", abs(own - 1) <= 0.05)


def spreads(
    reference: Reference, side: int, rng: np.random.Generator, truth: np.ndarray, counts: Sequence[int]
) -> list[Verdict]:
    """Pulls of active pixels; both weighted."""
    stacks = simulate(rng, truth, counts, 0.01)
    _, theirs = reference.maps_of(stacks)
    maps = ours(stacks, side)
    area = regions(side).collecting.slices
    verdicts = []
    for j, name in enumerate("FCD"):
        away = [(v[j] - truth[j])[area] for v in (theirs["data"], values(maps))]
        if name != "F":  # corgidrp has put negative values to 0: only what lies above tells of its spread
            away[0] = np.where(theirs["data"][j][area] > 0, away[0], np.nan)
        pulls = [a / e[j][area] for a, e in zip(away, (theirs["err"], errors(maps)), strict=True)]
        verdicts.append(spread_verdict(f"{name}: spread of pulls", one_sided(pulls[0]), float(np.nanstd(pulls[1]))))
        rms = [np.sqrt(np.nanmean(np.square(a))) for a in like_corgidrp(j, theirs["data"], maps, truth, area)]
        text = f"{rms[0]:.3g} / {rms[1]:.3g}"
        verdicts.append(Verdict(f"{name}: rms error, negatives put to 0", text))
    return verdicts


def one_sided(pulls: np.ndarray) -> float:
    """Root mean square of the pulls above 0: half of a symmetric distribution."""
    above = pulls[pulls > 0]
    return float(np.sqrt(np.square(above).mean()))


def full_size() -> None:
    """49 stacks of 30 frames of 1200 x 2200 pixels: time and peak memory of this process."""
    calibration = NoiseMapCalibration(ROMAN_CORONAGRAPH)
    rng, taken = np.random.default_rng(1), 0.0
    shape = ROMAN_CORONAGRAPH.shape
    for g in np.linspace(2, 5000, 7):
        for t in np.linspace(2, 100, 7):
            sigma = np.float32(np.sqrt(READ_NOISE_E**2 + 2 * g * g * (0.02 + 8e-4 * t)))
            for _ in range(30):
                frame = np.float32(20 + g * (0.02 + 8e-4 * t)) + sigma * rng.standard_normal(shape, np.float32)
                masks = rng.random(shape, np.float32) < 0.01
                start = time.process_time()
                calibration.add(frame, g, t, masks)
                taken += time.process_time() - start
    start = time.process_time()
    maps = calibration.fit()
    fit_s = time.process_time() - start
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    verdicts = [
        Verdict("frames in, CPU", f"{taken:.1f} s"),
        Verdict("fit, with all figures, CPU", f"{fit_s:.1f} s", f"{fit_s / maps.fixed_e.size * 1e6:.2f} us a pixel"),
        Verdict("peak memory", f"{peak_gb:.2f} GB", "<= 4 GB", peak_gb <= 4),
    ]
    sys.exit(0 if print_verdicts("49 stacks x 30 frames x 1200 x 2200, one frame at a time", verdicts) else 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where every target was met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--corgidrp-python", help="interpreter of the environment that holds corgidrp 5.1.1")
    parser.add_argument("--side", type=int, default=SIDE, help="rows and columns of a frame")
    parser.add_argument("--rounds", type=int, default=3, help="alternating runs of each")
    parser.add_argument("--full-size", action="store_true", help="time and memory of 49 stacks, without corgidrp")
    given = parser.parse_args(arguments)
    if given.full_size:
        full_size()
    if not given.corgidrp_python:
        parser.error("--corgidrp-python is needed")
    rng = np.random.default_rng(7)
    truth = truth_maps(rng, given.side)
    fine = True
    with tempfile.TemporaryDirectory() as folder:
        reference = Reference(given.corgidrp_python, Path(folder), given.side)
        stacks = simulate(rng, truth, [FRAMES] * len(GRID), 0.01)
        reference.load(stacks)
        size = f"6 stacks x {FRAMES} frames x {given.side}²"
        fine &= print_verdicts(f"Time, {size}", speed(reference, given.side, stacks, given.rounds))
        fine &= print_verdicts("Equal stacks, equal weights", agreement(reference, given.side, stacks))
        del stacks
        for title, counts in (("Equal stacks", [FRAMES] * len(GRID)), (f"Stacks of {UNEQUAL} frames", UNEQUAL)):
            fine &= print_verdicts(
                f"{title}, weighted, corgidrp / ours", spreads(reference, given.side, rng, truth, counts)
            )
        fine &= print_verdicts(
            "Pixels masked in a whole stack, corgidrp / ours", fully_masked(reference, given.side, rng, truth)
        )
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
