"""The rows of the sensor's summary: each quantity with its error, unit and how it was obtained.

Terms and definitions are those of EMVA 1288, Release 4.0 Linear, where it has them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.bands import rows_of
from darkpipe.files.bias_files import BiasSource
from darkpipe.files.fitting import UnitFiles
from darkpipe.files.index import ACCEPTED, RawFrame
from darkpipe.files.masters import Cell, ReferenceValues
from darkpipe.files.model_maps import ANOTHER_LAW
from darkpipe.files.products import read_header, read_planes, read_shape
from darkpipe.files.sensor import ModelFiles, PixelSet, counted, measure_sets
from darkpipe.files.tables import read_table
from darkpipe.science.clamp import level_scatter
from darkpipe.science.drift import Drift
from darkpipe.science.flags import DQ
from darkpipe.science.middle import Middle, settle
from darkpipe.science.noise import MAD_TO_SIGMA
from darkpipe.science.population import Population
from darkpipe.science.sensor import (
    CellMeans,
    NonUniformity,
    NonUniformitySums,
    SensorFit,
    fit_means,
    grows,
    with_model_error,
)

Row = Mapping[str, Any]
QUANTISATION = 1.0 / 12.0  # its variance [ADU²]
LEAST_LEVEL_ADU = 1e-3  # no level is known better
ADU, PER_S, E, E_PER_S, NUMBER = "adu", "adu / s", "electron", "electron / s", "1"
NAN = math.nan


def row(name: str, value: float, error: float, unit: str, how: str) -> Row:
    """A row of the summary."""
    return {"name": name, "value": float(value), "error": float(error), "unit": unit, "how": how}


@dataclass(frozen=True)
class Gain:
    """Conversion gain [e-/ADU] that electrons are told with, its 1 sigma (0: none is known), and the headers' gain."""

    value: float
    error: float
    header: float

    def rows(self, name: str, value: float, error: float, unit: tuple[str, str], how: str) -> list[Row]:
        """A quantity in ADU and, where the gain is known, in electrons with the gain's error."""
        electrons = math.hypot(error * self.value, value * self.error)
        return [
            row(f"{name}_{'adu' if unit[0] == ADU else 'adu_s'}", value, error, unit[0], how),
            row(f"{name}_{'e' if unit[1] == E else 'e_s'}", value * self.value, electrons, unit[1], how),
        ]


def header_gain(frames: Sequence[RawFrame]) -> float | None:
    """Median of the gains that headers state [e-/ADU], as they stand there; None where none does."""
    stated = [f.egain for f in frames if math.isfinite(f.egain) and f.egain > 0]
    return float(np.median(stated)) if stated else None


def gain_of(stated: float | None, values: ReferenceValues) -> Gain:
    """The gain in use. A header states no error: what the data measure instead is taken for it."""
    header = NAN if stated is None else stated
    if stated is not None and values.scale_factor != 1:  # per raw or per native count: as step 2 decided, or the data
        known = values.gain_e_per_adu if values.gain_source == "header" else values.gain_measured_e_per_adu or header
        header = min((stated, stated * values.scale_factor), key=lambda g: abs(math.log(g / known)))
    if values.gain_source == "assumed":
        return Gain(NAN, NAN, header)
    measured, error = values.gain_measured_e_per_adu, values.gain_measured_error or 0.0
    if values.gain_source == "header" and measured is not None:
        error = max(error, abs(measured - values.gain_e_per_adu))
    return Gain(values.gain_e_per_adu, 0.0 if values.gain_source == "setting" else error, header)


def gain_rows(gain: Gain, values: ReferenceValues) -> list[Row]:
    """Conversion gain as used, measured and stated, and how the last two agree (1/K of EMVA 1288)."""
    measured = NAN if values.gain_measured_e_per_adu is None else values.gain_measured_e_per_adu
    error = NAN if values.gain_measured_error is None else values.gain_measured_error
    ratio, unit = measured / gain.header, "electron / adu"
    told = "the two cannot be compared"
    if math.isfinite(ratio):
        told = f"{abs(ratio - 1):.1%} apart, {abs(measured - gain.header) / error:.1f} errors of the measurement"
    return [
        row("gain_e_per_adu", gain.value, gain.error, unit, f"in use: {values.gain_source}"),
        row("gain_measured_e_per_adu", measured, error, unit, "variance against mean over the pixels of darks"),
        row("gain_header_e_per_adu", gain.header, NAN, unit, "median of the headers"),
        row("gain_measured_over_header", ratio, error / gain.header, NUMBER, told),
    ]


def level_error(variance_adu2: float) -> float:
    """1 sigma of the level of a master by that of its drift."""
    return max(math.sqrt(variance_adu2), LEAST_LEVEL_ADU)


def bias_drift(table: Path | None, scale_factor: float) -> Drift:
    """What the bias frames tell, from bias_frames.ecsv; None where there is none."""
    offsets: dict[str, list[float]] = {}
    for r in read_table(table) if table else ():
        if str(r["status"]) == ACCEPTED:
            offsets.setdefault(str(r["bias"]), []).append(float(r["offset_raw"]) / scale_factor)
    return Drift(level_scatter(offsets.values()), {name: len(values) for name, values in offsets.items()})


def bias_rows(path: Path | None, mask: Path, temperature_c: float, biases: Drift, gain: Gain) -> list[Row]:
    """Bias level, and DSNU: the non-uniformity of the dark signal at the shortest exposure."""
    if path is None:
        how = "there is no bias"
        none = [row("bias_level_adu", NAN, NAN, ADU, how)]
        return [*none, *(r for part in DSNU for r in gain.rows(part, NAN, NAN, (ADU, E), how))]
    middle, spread, number, found = _bias_pixels(BiasSource(path, temperature_c), mask)
    sigma = math.hypot(1.2533 * MAD_TO_SIGMA * spread / math.sqrt(max(number, 1)), level_error(biases.of_bias("")))
    at = f"of the bias at {temperature_c:g} deg C"
    how = f"median over pixels {at}; error: drift of {biases.all_bias_frames} frames"
    rows = [row("bias_level_adu", middle, sigma, ADU, how)]
    total = f"EMVA 1288 R4.0 Linear: spatial standard deviation {at}, less the temporal noise in it"
    parts = (total, "DSNU: part of whole rows", "DSNU: part of whole columns", "DSNU: part of single pixels")
    for name, (v, e), said in zip(DSNU, (found.total, found.row, found.column, found.pixel), parts, strict=True):
        rows += gain.rows(name, v, e, (ADU, E), said)
    return rows


def _bias_pixels(bias: BiasSource, mask: Path) -> tuple[float, float, int, NonUniformity]:
    """Median and median absolute deviation of a bias, of how many pixels, and its non-uniformity."""
    shape = read_shape(mask)
    bands, used, variance = rows_of(shape, 64), list[NDArray[np.uint8]](), 0.0
    middle = Middle()

    def values() -> Iterator[tuple[slice, NDArray[np.float32], NDArray[np.bool_]]]:
        """Of the pixels that count, which is known of all bands now."""
        for rows, packed in zip(bands, used, strict=True):
            value = bias.level(rows)
            yield rows, value, np.unpackbits(packed, count=value.size).view(np.bool_).reshape(value.shape)

    for rows in bands:
        value, error, _ = bias.read(rows)
        bits = read_planes(mask, ["DQ"], rows)[0]
        use = np.isfinite(value) & np.isfinite(error) & ((bits & int(DQ.DEAD | DQ.SATURATED)) == 0)
        variance += float((error[use].astype(np.float64) ** 2).sum())
        used.append(np.packbits(use))
        middle.add(value, use)
    middle.turn()
    settle(lambda: ([(value, use)] for _, value, use in values()), [middle])
    distance, sums = Middle(middle.double), NonUniformitySums(shape, middle.single)
    for rows, value, use in values():
        distance.add(value, use)
        sums.add(rows, value, use)
    distance.turn()
    settle(lambda: ([(value, use)] for _, value, use in values()), [distance])
    return middle.double, distance.double, middle.number, sums.found(variance)


DSNU = ("dsnu", "dsnu_row", "dsnu_column", "dsnu_pixel")


def noise_rows(values: ReferenceValues, frames: int, gain: Gain) -> list[Row]:
    """Read noise, whole and, in electrons, without the quantisation (temporal dark noise of EMVA 1288).

    frames : bias frames; below two, the read noise is what the notes of reference.yaml say of it.
    """
    sigma = values.read_noise_adu
    step = 10.0 ** (math.floor(math.log10(sigma)) - 3)  # reference.yaml keeps four digits
    known = values.read_noise_error_adu
    error = math.hypot(NAN if known is None else known, step / math.sqrt(12.0))
    without = math.sqrt(max(sigma**2 - QUANTISATION, 0.0))
    electrons = math.hypot(error * sigma / max(without, error) * gain.value, without * gain.error)
    by = f"differences of {frames} bias frames" if frames > 1 else "see the notes of reference"
    measured = values.read_noise_measured_adu
    if measured and abs(measured - sigma) > step:
        by = f"set; {by} give {measured:g}"
    if len(values.read_noise_by_temperature) > 1:
        by += "; " + ", ".join(f"{s:g} +- {e:.1g} at {t:g} deg C" for t, s, e in values.read_noise_by_temperature)
    return [
        row("read_noise_adu", sigma, error, ADU, f"of one frame, typical pixel, quantisation included: {by}"),
        row("read_noise_e", without * gain.value, electrons, E, "the same without quantisation (EMVA 1288: sigma_d)"),
    ]


def cell_means(files: UnitFiles, pixels: PixelSet, biases: Drift, darks: Drift) -> CellMeans:
    """Means of a set of pixels in the cells of a fitted model, with all that is known of their errors."""
    names = files.hangs_on
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    free = dict(zip(number, files.free_level, strict=True))
    return CellMeans(
        pixels.signal_adu,
        pixels.error_adu,
        files.temperature_c,
        np.array([c.temperature_sigma_c for c in files.cells]),
        files.exposure_s,
        pixels.weight * np.array([level_error(darks.level_variance(c.frames)) for c in files.cells]),
        np.array([number[name] for name in names]),
        pixels.weight * np.array([math.inf if free[name] else level_error(biases.of_bias(name)) for name in number]),
    )


def current_rows(
    sets: Sequence[PixelSet], fits: Sequence[SensorFit], gain: Gain, temperature_c: float, exposure_s: float
) -> list[Row]:
    """Dark current, its non-uniformity, growth with temperature."""
    rows: list[Row] = []
    names = {"typical": "dark_current_typical", "all": "dark_current_mean"}
    for pixels, fit in zip(sets, fits, strict=True):
        g = fit.growth
        kind = "pixels without any flag" if pixels.name == "typical" else "pixels, all that are measured"
        emva = "" if pixels.name == "typical" else " (EMVA 1288: mu_I.mean)"
        how = f"mean of {pixels.number} {kind}{emva} at {temperature_c:g} deg C, model fitted to {fit.cells} cells"
        how += f", misfit {fit.misfit:.2%}" if fit.misfit else ""
        how += "" if exposure_s <= 0 else f", exposure {exposure_s:g} s"
        value, error = float(g.current_adu_s[0]), float(g.current_error_adu_s[0])
        spread, own = pixels.spread.deviation()
        if pixels.sampled:
            how += ", rows spread over the sensor"
            error = math.hypot(error, spread / math.sqrt(pixels.number))
        rows += gain.rows(names[pixels.name], value, error, (PER_S, E_PER_S), how)
        sigma = math.hypot(own, spread * error / value) if value > 0 else own
        how = f"standard deviation over {pixels.number} {kind} of the fitted current, less its errors"
        rows += gain.rows(names[pixels.name] + "_spread", spread, sigma, (PER_S, E_PER_S), how)
    growth = fits[0].growth
    (energy,), (energy_error,) = growth.activation_energy_ev()
    (doubling,), (doubling_error,) = growth.doubling_temperature_c()
    at = f"of the typical dark current at {temperature_c:g} deg C"
    return [
        *rows,
        row(
            "doubling_temperature_c",
            doubling,
            doubling_error,
            "deg_C",
            f"ln 2 / (d ln I/dT) {at} (EMVA 1288 R3.0: T_d)",
        ),
        row("activation_energy_ev", energy, energy_error, "eV", f"k T^2 d ln I/dT {at}"),
    ]


def hot_energy_row(hot: PixelSet, fit: SensorFit) -> Row:
    """Activation energy of the hot pixels, which are defects in the depletion region."""
    (value,), (error,) = fit.growth.activation_energy_ev()
    how = f"mean of {hot.number} hot pixels that follow the model, each counting alike"
    return row("activation_energy_hot_ev", value, error, "eV", how)


def pixel_rows(mask: Path, status: Path, gain: Gain) -> list[Row]:
    """Hot pixels as a fraction, with what hot means, and numbers of special pixels."""
    card = read_header(mask)
    found = counted(mask, status)
    sigmas = (card["HOTABOVE"] - card["MEDIAN"]) / card["SIGMA"] if card["SIGMA"] > 0 else NAN
    rate = card["HOTABOVE"] / float(read_header(mask)["EXPTIME"])
    fraction = found["hot"] / found["pixels"]
    how = (
        f"above the median + {sigmas:.3g} robust sigma of the master {card['REFCELL']}: {rate:.3g} ADU/s, "
        f"{rate * gain.value:.3g} e-/s at {float(read_header(mask)['CCD-TEMP']):g} deg C; error: counting"
    )
    error = math.sqrt(max(found["hot"], 1) * (1.0 - fraction)) / found["pixels"]
    rows = [
        row("hot_pixel_fraction", fraction, error, NUMBER, how),
        row("pixels", found["pixels"], NAN, NUMBER, "in all"),
    ]
    for name, said in SPECIAL.items():
        rows.append(row(f"pixels_{name}", found[name], NAN, NUMBER, said))
    return rows


SPECIAL = {
    "hot": "dark signal far above the population",
    "warm": "clearly above the population, not hot",
    "dead": "far below the population, or constant",
    "saturated": "saturated in some cell",
    "unstable": "varies from frame to frame beyond the noise",
    "nonlinear": "does not follow the model",
    "fit_failed": "without a model",
    "special": "hot, warm, or of no use to a model",
}


def campaign_rows(cells: Sequence[Cell], temperature_c: float) -> list[Row]:
    """What was measured: temperatures, exposures, cells, frames."""
    cold = min(cells, key=lambda c: c.temperature_c)
    warm = max(cells, key=lambda c: c.temperature_c)
    exposures = [c.exposure_s for c in cells]
    said = "of the cells that are fitted"
    return [
        row("reference_temperature_c", temperature_c, NAN, "deg_C", "where dark current, energy and bias are quoted"),
        row("temperature_lowest_c", cold.temperature_c, cold.temperature_sigma_c, "deg_C", said),
        row("temperature_highest_c", warm.temperature_c, warm.temperature_sigma_c, "deg_C", said),
        row("exposure_shortest_s", min(exposures), NAN, "s", said),
        row("exposure_longest_s", max(exposures), NAN, "s", said),
        row("cells", len(cells), NAN, NUMBER, said),
        row("dark_frames", sum(c.frames for c in cells), NAN, NUMBER, said),
    ]


@dataclass(frozen=True)
class SummaryFiles:
    """What the summary is made of. bias, bias_frames: None where the campaign has none."""

    group_frames: Path
    mask: Path
    status: Path
    bias: Path | None
    bias_frames: Path | None
    masters: Sequence[Path]


def sensor_rows(
    files: UnitFiles, stated: float | None, made: ModelFiles, found: SummaryFiles, population: Population
) -> list[Row]:
    """All rows of the summary, by the model that synthesises.

    Parameters
    ----------
    files : the model's cells and the reference values. stated : gain of the headers.
    """
    values = files.reference
    unit = files.unit
    # one temperature alone says nothing of another
    temperature_c = values.temperature_c if grows(unit.model) else float(files.temperature_c.mean())
    gain = gain_of(stated, values)
    biases = bias_drift(found.bias_frames, values.scale_factor)
    offsets: dict[str, list[float]] = {}
    for r in read_table(found.group_frames):
        offsets.setdefault(str(r["cell"]), []).append(float(r["offset_adu"]))
    darks = Drift(level_scatter(offsets.values()) or biases.frame_adu)
    sets = measure_sets(found.masters, found.mask, found.status, made, temperature_c)
    longest = float(files.exposure_s.max())
    fits = [_fit(files, cell_means(files, s, biases, darks), population, temperature_c, longest) for s in sets]
    return [
        *current_rows(sets[:2], fits[:2], gain, temperature_c, longest if "t" in unit.model.axes else 0.0),
        hot_energy_row(sets[-1], fits[-1]),
        *bias_rows(found.bias, found.mask, temperature_c, biases, gain),
        row("prnu_percent", NAN, NAN, "%", "not applicable: it needs light (flat fields)"),
        *noise_rows(values, biases.all_bias_frames, gain),
        *gain_rows(gain, values),
        *pixel_rows(found.mask, found.status, gain),
        *campaign_rows(files.cells, temperature_c),
    ]


def _fit(
    files: UnitFiles, means: CellMeans, population: Population, temperature_c: float, exposure_s: float
) -> SensorFit:
    """Dark current of a set of pixels; where a second model could be fitted as well, with the error of the choice."""
    fit = fit_means(files.unit, means, population, temperature_c, exposure_s)
    other = ANOTHER_LAW.get(files.model)
    if other is None:
        return fit
    unit = replace(files, model=other).unit
    free = np.where(np.isinf(means.group_sigma_adu)[means.group], means.group, -1)
    if unit.model.lacks(means.temperature_c, means.exposure_s, free, unit.fit_reference):
        return fit
    return with_model_error(fit, fit_means(unit, means, population, temperature_c, exposure_s))
