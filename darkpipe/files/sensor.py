"""Sensor quantities on disk: maps of activation energy and doubling temperature, means of masters, the summary."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.ahead import ahead, each_ahead
from darkpipe.files.bands import rows_of
from darkpipe.files.masters import UNUSABLE
from darkpipe.files.products import Card, Frame, Product, blank, read_header, read_planes, read_shape
from darkpipe.files.strips import whole_frames, write_together
from darkpipe.files.tables import read_table, table_of, write_table
from darkpipe.science.block_sums import masked_sums
from darkpipe.science.flags import DQ, MODEL_INVALID
from darkpipe.science.models import MODELS, Reference
from darkpipe.science.sensor import Growth, Spread, growth

BAND_BYTES = 16 << 20
SAMPLE_PIXELS = 4 << 20  # that means and spreads are taken of; more would cost minutes and tell no more
SAMPLE_BANDS = 32
NO_MEASUREMENT = DQ.DEAD | DQ.SATURATED | DQ.FIT_FAILED
UNTYPICAL = MODEL_INVALID | DQ.HOT | DQ.WARM | DQ.OUTLIER
F4 = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ModelFiles:
    """Maps of a fitted model: parameters by name, covariance."""

    model: str
    maps: Mapping[str, Product]
    covariance: Product

    @property
    def header(self) -> Mapping[str, Any]:
        return read_header(next(iter(self.maps.values())))

    def growth(self, temperature_c: float, rows: slice, header: Mapping[str, Any]) -> tuple[Growth, NDArray[np.uint16]]:
        """Dark current and growth of a band of rows, flattened, and the bits of the fit. `header`: that of the maps."""
        spec = MODELS[self.model]
        planes = {name: read_planes(path, ["SCI", "DQ"], rows) for name, path in self.maps.items()}
        bits = next(iter(planes.values()))[1]
        parameters = np.zeros((3, bits.size))
        for p in spec.parameters:
            parameters[p.slot] = planes[p.name][0].ravel()
        covariance = read_planes(self.covariance, ["SCI"], rows)[0].reshape(6, -1).astype(np.float64)
        quoted = Reference(float(header["T-REF"]), 1.0, float(header["EGAP"]))
        longest = float(header["EXPMAX"])
        return growth(spec, parameters, covariance, quoted, temperature_c, longest), bits.ravel().astype(np.uint16)


def bands(shape: tuple[int, int], planes: int) -> list[slice]:
    """Bands of rows of which so many float64 planes stay within `BAND_BYTES`."""
    height = max(1, BAND_BYTES // max(1, 8 * planes * shape[1]))
    return [slice(r, min(r + height, shape[0])) for r in range(0, shape[0], height)]


def sample_bands(shape: tuple[int, int], planes: int) -> list[slice]:
    """Bands over the whole of a sensor, or, of one of more than `SAMPLE_PIXELS`, bands spread evenly over it."""
    rows, cols = shape
    if rows * cols <= SAMPLE_PIXELS:
        return bands(shape, planes)
    height = max(1, SAMPLE_PIXELS // (SAMPLE_BANDS * cols))
    starts = np.unique(np.linspace(0, rows - height, SAMPLE_BANDS).astype(int))
    return [slice(int(start), int(start) + height) for start in starts]


def growth_maps(files: ModelFiles, inputs: Sequence[str], temperature_c: float) -> tuple[Frame, Frame]:
    """Activation energy [eV] and doubling temperature [°C] of every pixel at a temperature: value, 1 sigma, DQ.

    Where one is not defined (see `science.sensor.Growth`) it is NaN and has the bit FIT_FAILED; the other bits are
    those of the fit, and EXTRAPOLATED where the temperature is outside of what was fitted.
    """
    templates = _growth_templates(files, inputs, temperature_c)
    energy, doubling = whole_frames(templates, _growth_strips(files, temperature_c))
    return energy, doubling


def write_growth_maps(
    paths: Sequence[Path], files: ModelFiles, inputs: Sequence[str], temperature_c: float
) -> list[str]:
    """Write the same two band by band; returns their digests.

    Raises
    ------
    ProductError
        when a map is missing or damaged, or a file cannot be replaced.
    """
    templates = _growth_templates(files, inputs, temperature_c)
    return write_together(paths, templates, ahead(_growth_strips(files, temperature_c)))


def _growth_strips(
    files: ModelFiles, temperature_c: float
) -> Iterator[tuple[slice, Sequence[Mapping[str, NDArray[Any]]]]]:
    header, shape = files.header, read_shape(next(iter(files.maps.values())))
    outside = not header["T-MIN"] - 0.5 <= temperature_c <= header["T-MAX"] + 0.5
    for band in bands(shape, 30):
        found, bits = files.growth(temperature_c, band, header)
        if outside:
            bits = bits | np.uint16(DQ.EXTRAPOLATED)
        made = (found.activation_energy_ev(), found.doubling_temperature_c())
        frames = []
        for quantity, sigma in made:
            undefined = ~(np.isfinite(quantity) & np.isfinite(sigma))
            bad = np.where(undefined, bits | np.uint16(DQ.FIT_FAILED), bits)
            planes = (np.where(undefined, np.nan, quantity), np.where(undefined, np.nan, sigma), bad)
            kinds = zip(("SCI", "ERR", "DQ"), planes, (np.float32, np.float32, np.uint16), strict=True)
            frames.append({name: np.asarray(plane, kind).reshape(-1, shape[1]) for name, plane, kind in kinds})
        yield band, frames


def _growth_templates(files: ModelFiles, inputs: Sequence[str], temperature_c: float) -> list[Frame]:
    header, shape = files.header, read_shape(next(iter(files.maps.values())))
    planes = blank(shape, np.float32), blank(shape, np.float32), blank(shape, np.uint16)
    cards: list[Card] = [
        ("MODEL", files.model, "fitted model"),
        ("T-REF", temperature_c, "[deg C] temperature that the value holds at"),
        ("T-MIN", header["T-MIN"], "[deg C] lowest fitted"),
        ("T-MAX", header["T-MAX"], "[deg C] highest fitted"),
        ("EGAP", header["EGAP"], "[eV] energy gap"),
    ]
    return [
        Frame(*planes, unit, [*cards, ("CONTENT", name, "of the dark current, with 1 sigma")], inputs=list(inputs))
        for name, unit in (("activation energy", "eV"), ("doubling temperature", "deg_C"))
    ]


SETS = ("typical", "all", "hot")


@dataclass
class PixelSet:
    """A set of pixels: its name, how many, the mean of each cell and its 1 sigma [ADU] (n,), and what the pixels differ
    in by their fitted dark current [ADU/s].

    Hot pixels, which differ by orders of magnitude, are divided by their dark current before the mean is taken, so that
    each counts alike; `weight` is the mean factor [s/ADU], 1 for the others. `sampled`: they are a part of the sensor.
    """

    name: str
    number: int
    signal_adu: NDArray[np.float64]
    error_adu: NDArray[np.float64]
    spread: Spread
    weight: float = 0.0
    sampled: bool = False

    def plus(self, more: PixelSet) -> None:
        """Add the sums over further pixels, while `signal_adu` and `error_adu` are sums of values and of squares."""
        self.number += more.number
        self.signal_adu += more.signal_adu
        self.error_adu += more.error_adu
        self.weight += more.weight
        self.spread.plus(more.spread)


def measure_sets(
    masters: Sequence[Path], mask: Path, status: Path, model: ModelFiles, temperature_c: float
) -> tuple[PixelSet, ...]:
    """The typical pixels (no bit that says otherwise), all pixels that every cell measures, and the hot ones of these
    that follow the model.

    Saturated, dead and failed pixels are in neither: a mean over them would tell of the converter, not of dark current.
    """
    shape, n = read_shape(masters[0]), len(masters)
    header = model.header
    chosen = sample_bands(shape, 2 * n + 30)

    def part(band: slice) -> list[PixelSet]:
        """What the pixels of some rows add to the sums of each set."""
        bits = read_planes(mask, ["DQ"], band)[0].ravel() | read_planes(status, ["DQ"], band)[0].ravel()
        measured = (bits & int(NO_MEASUREMENT)) == 0
        signal, variance = np.empty((n, bits.size), np.float32), np.empty((n, bits.size), np.float32)
        for k, path in enumerate(masters):
            sci, err, dq, count = (plane.ravel() for plane in read_planes(path, ["SCI", "ERR", "DQ", "COUNT"], band))
            measured &= np.isfinite(sci) & np.isfinite(err) & (count > 0) & ((dq & int(UNUSABLE)) == 0)
            signal[k] = sci
            np.square(err, out=variance[k])
        found, _ = model.growth(temperature_c, band, header)
        typical = measured & ((bits & int(UNTYPICAL)) == 0)
        hot = measured & ((bits & int(DQ.HOT)) != 0) & ((bits & int(MODEL_INVALID)) == 0) & np.isfinite(found.per_k)
        return [_sums(*each, signal, variance, found) for each in zip(SETS, (typical, measured, hot), strict=True)]

    sets = tuple(PixelSet(name, 0, np.zeros(n), np.zeros(n), Spread()) for name in SETS)
    for parts in each_ahead(part, chosen, threads=2):  # summed in the order of the rows, whoever is the first
        for pixels, more in zip(sets, parts, strict=True):
            pixels.plus(more)
    for pixels in sets:
        many = max(pixels.number, 1)
        pixels.signal_adu /= many
        pixels.error_adu = np.sqrt(pixels.error_adu) / many
        pixels.weight /= many
        pixels.sampled = sum(band.stop - band.start for band in chosen) < shape[0]
    return sets


def _sums(name: str, use: Bools, signal: F4, variance: F4, found: Growth) -> PixelSet:
    """Sums over the pixels in use (P,) of a band (n, P)."""
    current, error, n = found.current_adu_s[use], found.current_error_adu_s[use], signal.shape[0]
    sums = PixelSet(name, current.size, np.zeros(n), np.zeros(n), Spread())
    if name == "hot":
        factor = 1.0 / current
        sums.signal_adu += (signal[:, use] * factor).sum(axis=1)
        sums.error_adu += (variance[:, use] * factor**2).sum(axis=1)
        sums.weight = float(factor.sum())
    else:
        run: Any = masked_sums
        run(signal, use, sums.signal_adu)
        run(variance, use, sums.error_adu)
        sums.weight = float(current.size)
    sums.spread.add(current, error)
    return sums


def counted(mask: Path, status: Path) -> dict[str, int]:
    """Pixels with each bit in the mask of special pixels or in the fit; 'special': hot, warm, or of no use to a model;
    'pixels': in all."""
    of_mask, of_both = (DQ.HOT, DQ.WARM, DQ.DEAD, DQ.SATURATED), (DQ.UNSTABLE, DQ.NONLINEAR, DQ.FIT_FAILED)
    found = {str(flag.name).lower(): 0 for flag in (*of_mask, *of_both)} | {"special": 0, "pixels": 0}
    for rows in rows_of(read_shape(mask), 16):
        bits = read_planes(mask, ["DQ"], rows)[0]
        for flag in of_mask:
            found[str(flag.name).lower()] += int(np.count_nonzero(bits & int(flag)))
        bits = bits | read_planes(status, ["DQ"], rows)[0]
        for flag in of_both:
            found[str(flag.name).lower()] += int(np.count_nonzero(bits & int(flag)))
        found["special"] += int(np.count_nonzero(bits & int(MODEL_INVALID | DQ.HOT | DQ.WARM)))
        found["pixels"] += int(bits.size)
    return found


def write_summary(path: Path, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> str:
    """Write rows of name, value, error, unit, how; six digits are kept. Returns the digest."""
    kept = [{**row, "value": _six(row["value"]), "error": _six(row["error"])} for row in rows]
    table = table_of(kept)
    table.meta.update(meta)
    return write_table(path, table)


def _six(value: float) -> float:
    return float(f"{value:.6g}")


SHOWN = {
    "dark_current_typical_e_s": "dark current, typical pixel",
    "dark_current_mean_e_s": "dark current, mean of all",
    "dark_current_mean_adu_s": "dark current, mean of all",
    "doubling_temperature_c": "doubling temperature",
    "activation_energy_ev": "activation energy",
    "activation_energy_hot_ev": "activation energy, hot pixels",
    "dsnu_e": "DSNU of the bias",
    "read_noise_e": "read noise",
    "read_noise_adu": "read noise",
    "gain_measured_e_per_adu": "gain, measured",
    "gain_header_e_per_adu": "gain, header",
    "bias_level_adu": "bias level",
    "hot_pixel_fraction": "hot pixels, fraction",
}
"""Rows that the table at the end of a run shows, with their names there."""


def summary_lines(path: Path) -> list[str]:
    """The rows of `SHOWN` that have a value, in a line each; none where there is no summary."""
    if not path.is_file():
        return []
    rows = {str(r["name"]): r for r in read_table(path)}
    at = float(rows["reference_temperature_c"]["value"])
    lines = [f"at {at:g} deg C; the whole of it: {path.name}"]
    for name, said in SHOWN.items():
        value = float(rows[name]["value"]) if name in rows else math.nan
        if math.isfinite(value):
            error = float(rows[name]["error"])
            both = f"{value:.4g} +- {error:.2g}" if math.isfinite(error) else f"{value:.4g}"
            lines.append(f"{said}: {both} {rows[name]['unit']}".removesuffix(" 1"))
    return lines
