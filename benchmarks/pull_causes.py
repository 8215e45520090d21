"""What makes held-out pulls of hot pixels differ from 1 on the real STL-1001E set, in numbers.

``python benchmarks/pull_causes.py`` runs ``full`` (the +10 °C cell kept out of the fit) and looks at its masters with
means of its own: (a) the scale of each cell against the others of its temperature, as a temperature; (b) read-out: the
seconds of dark signal that biases hold, and the intercept of signal against exposure; (c) linearity by signal; (d) the
scatter of growth between temperatures within a session and between sessions; (e) telegraph noise from frame to frame;
(f) trails beside hot pixels; (g) the error model: spreads of held-out pulls with terms that cells of a temperature
share, the last of each model as the data tell them. ``--output_dir`` keeps the products; with ``--no_run`` an earlier
run's are looked at. It judges nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml
from astropy.io import fits
from astropy.table import Table
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import robust_spread
from benchmarks.heldout_real import products
from benchmarks.shared_errors import Masters, Terms, estimate_terms, held_out_spreads

INVALID = 4 | 8 | 16 | 32 | 256
RATES = ((1.0, 3.0), (3.0, 10.0), (10.0, 30.0), (30.0, 200.0))  # ADU/s
CLASSES = ((300.0, 1000.0), (1000.0, 5000.0), (5000.0, 20000.0))
SAMPLE = 700  # bright pixels that the terms are estimated from
BRIGHTEST = 20000.0  # ADU: above, other pixels than those of the pulls
STEADY = 0.003  # relative error that keeps the brightest cells from deciding alone
TERMS = {
    "two_component": (
        Terms(),
        Terms(own=0.0117),
        Terms(own=0.006),
        Terms(own=0.006, level_s=0.3),
        Terms(own=0.006, temperature=0.012),
        Terms(own=0.006, temperature=0.012, level_s=0.3),
        Terms(own=0.006, temperature=0.016, level_s=0.3),
        Terms(own=0.006, temperature=0.024, level_s=0.3),
    ),
    "exp_2d": (
        Terms(),
        Terms(own=0.0047),
        Terms(own=0.004, level_s=0.2),
        Terms(own=0.004, temperature=0.005, level_s=0.2),
        Terms(own=0.004, temperature=0.01, level_s=0.2),
    ),
}


@dataclass(frozen=True)
class Products:
    """Masters of a run over its unflagged pixels; `shape` of the whole image, `pixels` where they lie in it."""

    masters: Masters
    beyond: np.ndarray  # the +10 °C master (P,)
    bias: dict[float, np.ndarray]  # excess of each bias over its columns (P,)
    pixels: np.ndarray
    shape: tuple[int, int]
    folder: Path
    names: list[str]

    def rates(self) -> np.ndarray:
        """Dark signal at 0 °C, ADU/s, from its two longest cells (P,)."""
        m = self.masters
        here = np.flatnonzero(m.temperature_c == 0.0)
        long = here[np.argsort(m.exposure_s[here])[-2:]]
        return np.asarray(m.signal[long].sum(axis=0) / m.exposure_s[long].sum())

    def at(self, chosen: np.ndarray) -> Products:
        """The same over some of the pixels."""
        bias = {t: excess[chosen] for t, excess in self.bias.items()}
        return replace(self, masters=self.masters.at(chosen), beyond=self.beyond[chosen], bias=bias,
                       pixels=self.pixels[chosen])  # fmt: skip


def plane(path: Path, name: str = "SCI") -> np.ndarray:
    """A plane of a product."""
    with fits.open(path) as hdus:
        return np.asarray(hdus[name].data, float)


def read_products(folder: Path) -> Products:
    """Masters, biases and noise of a finished run."""
    groups = Table.read(folder / "groups.ecsv", format="ascii.ecsv")
    known = yaml.safe_load((folder / "reference.yaml").read_text())
    names = [str(cell) for cell in groups["cell"]]
    paths = [folder / "dark_masks_by_temp" / f"darks_{name}.fits" for name in names]
    inside = np.asarray(groups["temperature_c"], float) < 5.0
    with fits.open(folder / "dark_model" / "hot_pixel_mask.fits") as hdus:
        good = ((hdus["DQ"].data & INVALID) == 0).ravel()
    signal = np.stack([plane(path).ravel() for path in paths])
    pixels = np.flatnonzero(good & np.isfinite(signal[inside]).all(axis=0))
    chosen = [path for path, ok in zip(paths, inside, strict=True) if ok]
    masters = Masters(
        signal[inside][:, pixels],
        plane(folder / "bias" / "read_noise_map.fits").ravel()[pixels] ** 2,
        np.stack([plane(path, "BIASERR").ravel()[pixels] ** 2 for path in chosen]),
        float(known["gain_e_per_adu"]),
        np.asarray(groups["temperature_c"], float)[inside],
        np.asarray(groups["exposure_s"], float)[inside],
        np.asarray(groups["frames"], float)[inside],
        float(known["temperature_c"]),
    )
    bias = {}
    for temperature in np.unique(masters.temperature_c):
        level = plane(folder / "bias" / f"master_bias_T{temperature:.1f}C.fits")
        bias[float(temperature)] = (level - np.median(level, axis=0)).ravel()[pixels]
    kept = [name for name, ok in zip(names, inside, strict=True) if ok]
    shape = plane(paths[0]).shape
    return Products(masters, signal[~inside][0][pixels], bias, pixels, (shape[0], shape[1]), folder, kept)


def lines(m: Masters, temperature_c: float, without: int | None = None) -> tuple[np.ndarray, ...]:
    """(intercept, slope, error of the intercept) of signal against exposure at a temperature, per pixel."""
    here = [k for k in np.flatnonzero(m.temperature_c == temperature_c) if k != without]
    y, t = m.signal[here], m.exposure_s[here][:, None]
    model = np.maximum(y.sum(axis=0) / t.sum(), 0) * t
    w = 1 / (
        m.read_variance / m.frames[here][:, None] + model / m.gain / m.frames[here][:, None] + (STEADY * model) ** 2
    )
    s0, s1, s2 = w.sum(axis=0), (w * t).sum(axis=0), (w * t * t).sum(axis=0)
    y0, y1 = (w * y).sum(axis=0), (w * t * y).sum(axis=0)
    det = s0 * s2 - s1**2
    error = np.sqrt(s2 / det + m.bias_variance[here[0]])
    return (s2 * y0 - s1 * y1) / det, (s0 * y1 - s1 * y0) / det, error


def middle(values: np.ndarray) -> str:
    """Median and its error."""
    return f"{np.median(values):+.3f} +- {1.25 * robust_spread(values) / np.sqrt(values.size):.3f}"


def scale_of_cells(found: Products, hot: np.ndarray) -> Iterator[str]:
    """(a) Each cell against the line through the other cells of its temperature, hot pixels."""
    m = found.masters.at(hot)
    growth = np.log(found.rates()[hot] / lines(m, -10.0)[1]) / 10.0
    for k, name in enumerate(found.names):
        intercept, slope, _ = lines(m, float(m.temperature_c[k]), without=k)
        line = intercept + slope * m.exposure_s[k]
        well = (line > 300) & (line < BRIGHTEST)
        if well.sum() < 50:
            continue
        off = m.signal[k][well] / line[well] - 1
        kelvin = np.median(off) / np.median(growth[well])
        error = 1.25 * robust_spread(off) / np.sqrt(well.sum())
        yield f"{name:>16} {int(well.sum()):5d} pixels: {np.median(off):+.2%} +- {error:.2%}, as {kelvin:+.3f} K"


def read_out(found: Products) -> Iterator[str]:
    """(b) Seconds of dark signal in the biases, and effective exposure at t = 0; by temperature, rate and row."""
    row = found.pixels // found.shape[1]
    for temperature, excess in found.bias.items():
        intercept, slope, error = lines(found.masters, temperature)
        for low, high in RATES:
            some = (slope > low) & (slope < high)
            if some.sum() < 30:
                continue
            seconds, own = (intercept / slope)[some], (error / slope)[some]
            beyond = float(np.mean(np.abs(seconds - np.median(seconds)) > 5 * own))
            scatter, noise = robust_spread(seconds), float(np.median(own))
            extra = np.sqrt(max(scatter**2 - noise**2, 0.0))
            yield (
                f"{temperature:5g} C, {low:g} to {high:g} ADU/s ({int(some.sum())}): bias holds "
                f"{middle((excess / slope)[some])} s; intercept {middle(seconds)} s, scatter {scatter:.2f} s of which "
                f"noise {noise:.2f}, beyond it {extra:.2f}; beyond 5 sigma {beyond:.1%}"
            )
        fast = (slope > 8) & (slope < 120)
        quarters = [fast & (row // (found.shape[0] // 4) == q) for q in range(4)]
        shown = "; ".join(f"{middle((excess / slope)[q])}, {middle((intercept / slope)[q])}" for q in quarters)
        yield f"{temperature:5g} C, by quarter of the rows, bias and intercept [s]: {shown}"


def linearity(found: Products) -> Iterator[str]:
    """(c) Rate of the cells of 0 °C by signal at 300 s, against that of the longest."""
    m = found.masters
    here = np.flatnonzero((m.temperature_c == 0.0) & (m.exposure_s >= 60))
    last = here[np.argmax(m.exposure_s[here])]
    for low, high in ((300.0, 1000.0), (1000.0, 3000.0), (3000.0, 10000.0), (10000.0, 20000.0), (20000.0, 45000.0)):
        some = (m.signal[last] > low) & (m.signal[last] < high)
        parts = []
        for k in here:
            ratio = m.signal[k][some] / m.exposure_s[k] / (m.signal[last][some] / m.exposure_s[last]) - 1
            parts.append(f"{m.exposure_s[k]:g} s {np.median(ratio):+.2%}")
        yield f"{low:g} to {high:g} ADU ({int(some.sum())}): " + ", ".join(parts)


def intrinsic(values: np.ndarray, variance: np.ndarray) -> float:
    """Scatter beyond the noise that gives the values a robust spread of 1."""
    low, high = 0.0, 1.0
    centred = values - np.median(values)
    for _ in range(40):
        mid = 0.5 * (low + high)
        low, high = (mid, high) if robust_spread(centred / np.sqrt(variance + mid**2)) > 1 else (low, mid)
    return high


def growth_between(found: Products) -> Iterator[str]:
    """(d) ln ratio of the rates of two temperatures, within 2017 (-10, -5), across (-5, 0) and within 2019 (0, +10);
    and what both laws leave of the three fitted temperatures."""
    m = found.masters
    rate, variance = {}, {}
    for temperature in (-10.0, -5.0, 0.0):
        here = np.flatnonzero(m.temperature_c == temperature)
        t = (m.exposure_s[here] + 0.2)[:, None]
        model = np.maximum(m.signal[here].sum(axis=0) / t.sum(), 0) * t
        w = 1 / ((m.read_variance + model / m.gain) / m.frames[here][:, None] + (STEADY * model) ** 2)
        info = (w * t * t).sum(axis=0)
        rate[temperature] = (w * t * m.signal[here]).sum(axis=0) / info
        variance[temperature] = 1 / info + m.bias_variance[here[0]] * ((w * t).sum(axis=0) / info) ** 2
    rate[10.0] = found.beyond / 300.0
    variance[10.0] = (2 * m.read_variance + np.maximum(found.beyond, 0) / m.gain) / 300.0**2
    for low, high in ((3.0, 6.0), (6.0, 12.0), (12.0, 40.0), (40.0, 150.0)):
        for a, b in ((-10.0, -5.0), (-5.0, 0.0), (0.0, 10.0)):
            some = (rate[0.0] > low) & (rate[0.0] < high) & (rate[a] > 0) & (rate[b] > 0)
            some &= np.isfinite(found.beyond) & (found.beyond < 30000)
            ratio = np.log(rate[b][some] / rate[a][some])
            noise = variance[a][some] / rate[a][some] ** 2 + variance[b][some] / rate[b][some] ** 2
            own = intrinsic(ratio, noise)
            tail = float(np.mean(np.abs(ratio - np.median(ratio)) > 4 * np.sqrt(noise + own**2)))
            steep = float(np.median(ratio)) / (b - a)
            yield (
                f"{low:g} to {high:g} ADU/s at 0 C, {a:g} to {b:g} C ({int(some.sum())}): {steep:.4f}"
                f" /K, scatter beyond noise {own / (b - a):.4f} /K, beyond 4 sigma {tail:.1%}"
            )
    yield from curvature(found, rate, variance)


def curvature(found: Products, rate: dict[float, np.ndarray], variance: dict[float, np.ndarray]) -> Iterator[str]:
    """What the law leaves: the one combination of three rates that two parameters cannot reach, in units of signal."""
    temperatures = np.array([-10.0, -5.0, 0.0])
    x = found.masters.law(temperatures, np.ones(3))
    null = np.linalg.svd(x.T)[2][2]
    null = null / np.abs(null).max()
    r, v = np.stack([rate[t] for t in temperatures]), np.stack([variance[t] for t in temperatures])
    bright = r[2] * 300
    for low, high in ((150.0, 250.0), (300.0, 600.0), (600.0, 1000.0), (1000.0, 2000.0), (2000.0, 5000.0),
                      (5000.0, 10000.0), (10000.0, 40000.0)):  # fmt: skip
        some = (bright >= low) & (bright < high) & (r > 0).all(axis=0)
        unit = np.sqrt((null**2) @ r[:, some] ** 2)
        left, noise = (null @ r[:, some]) / unit, (null**2) @ v[:, some] / unit**2
        logs = np.array([1.0, -2.0, 1.0]) / np.sqrt(6.0)
        bent, bent_noise = logs @ np.log(r[:, some]), (logs**2) @ (v[:, some] / r[:, some] ** 2)
        yield (
            f"{low:g} to {high:g} ADU at 300 s ({int(some.sum())}): two_component median {np.median(left):+.2%}, "
            f"scatter {intrinsic(left, noise):.2%}; exp_2d {np.median(bent):+.2%}, {intrinsic(bent, bent_noise):.2%}"
        )


def telegraph(found: Products) -> Iterator[str]:
    """(e) chi² of the frames about their master in the two cells of ten frames (its sigma holds 1 % of signal)."""
    for name in ("T0.0C_texp30s", "T-5.0C_texp60s"):
        path = found.folder / "dark_masks_by_temp" / f"darks_{name}.fits"
        k = found.names.index(name)
        reduced, dof = plane(path, "CHI2").ravel()[found.pixels], found.masters.frames[k] - 1
        for low, high in ((0.0, 300.0), (300.0, 1000.0), (1000.0, BRIGHTEST)):
            some = (found.masters.signal[k] > low) & (found.masters.signal[k] < high)
            ratio = np.median(reduced[some]) / (stats.chi2.median(dof) / dof)
            beyond = float(np.mean(reduced[some] * dof > stats.chi2.ppf(0.999, dof)))
            yield f"{name}, {low:g} to {high:g} ADU ({int(some.sum())}): chi² {ratio:.2f}, beyond 99.9 % {beyond:.2%}"


def trails(found: Products) -> Iterator[str]:
    """(f) Signal of the neighbours of pixels of 3,000 to 40,000 ADU at 0 °C, 300 s, in per cent of theirs."""
    image = plane(found.folder / "dark_masks_by_temp" / "darks_T0.0C_texp300s.fits")
    y, x = np.nonzero((image > 3000) & (image < 40000))
    inner = (y > 2) & (y < image.shape[0] - 3) & (x > 2) & (x < image.shape[1] - 3)
    y, x, bulk = y[inner], x[inner], float(np.median(image))
    for name, steps in (("along columns", ((-2, 0), (-1, 0), (1, 0), (2, 0))),
                        ("along rows", ((0, -2), (0, -1), (0, 1), (0, 2)))):  # fmt: skip
        parts = []
        for dy, dx in steps:
            share = 100 * (image[y + dy, x + dx] - bulk) / image[y, x]
            parts.append(f"{dy + dx:+d}: {middle(share)} %")
        yield f"{name} ({y.size}): " + ", ".join(parts)


def error_models(found: Products) -> Iterator[str]:
    """(g) Spread of held-out pulls in cells and classes above 300 ADU, with terms of the covariance."""
    brightest = found.masters.signal.max(axis=0)
    some = (brightest > 1000) | ((brightest > 280) & (np.random.default_rng(0).random(brightest.size) < 0.15))
    m = found.masters.at(np.flatnonzero(some & (brightest < BRIGHTEST)))
    sample = np.random.default_rng(1).permutation(np.flatnonzero((brightest > 1000) & (brightest < BRIGHTEST)))[:SAMPLE]
    for model, candidates in TERMS.items():
        for terms in (*candidates, estimate_terms(model, found.masters.at(sample))):
            spreads = held_out_spreads(model, m, terms, CLASSES)
            off = np.array([s - 1 for s, _ in spreads])
            own = np.array([1.17 / np.sqrt(n) for _, n in spreads])
            beyond = np.sqrt(max(np.mean(off**2) - np.mean(own**2), 0.0))
            missed = int((np.abs(off) > 0.1 + own).sum())
            yield (
                f"{model}, {terms.describe()}: mean {1 + off.mean():.3f}, rms of (spread - 1) beyond statistics "
                f"{beyond:.3f}, {missed} of {off.size} beyond 0.1 + 1 sigma"
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    with products(__doc__.splitlines()[0], arguments) as output_dir:
        found = read_products(output_dir)
        hot = np.flatnonzero((found.rates() > 3) & (found.rates() < 150))
        for part, rows in (
            ("a: scale of each cell", scale_of_cells(found, hot)),
            ("b: read-out", read_out(found)),
            ("c: linearity, rate against that of 300 s", linearity(found)),
            ("d: growth with temperature", growth_between(found)),
            ("e: telegraph noise", telegraph(found)),
            ("f: trails", trails(found)),
            ("g: error model", error_models(found)),
        ):
            print(f"\n{part}")
            for row in rows:
                print(f"  {row}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
