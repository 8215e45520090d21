"""Biases on disk: masters, the line b0 + b1·(T - T_ref) through them, and a bias model made elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from darkpipe.errors import FrameError, ProductError, one_line
from darkpipe.files.ahead import ahead, each_ahead
from darkpipe.files.bands import rows_of
from darkpipe.files.fits_bytes import check_structure
from darkpipe.files.products import (
    Card,
    Frame,
    Product,
    blank,
    read_header,
    read_planes,
    read_shape,
    write_frame,
)
from darkpipe.files.sources import opened_source
from darkpipe.files.strips import InStrips, Strip
from darkpipe.science.bias import evaluate, fit_bias_line, value_at
from darkpipe.science.flags import DQ

F4 = NDArray[np.float32]
T_REF = "T_REF"
BAND_PIXELS = 1 << 16  # in double precision they stay in the cache
_GIVEN_NAMES = ("bias_{}_map", "{}_map", "bias_{}", "{}")


@dataclass(frozen=True)
class BiasSource:
    """Where the bias of a dark comes from: a master (`temperature_c` None) or the line at a temperature."""

    path: Product
    temperature_c: float | None = None

    def level(self, rows: slice = slice(None)) -> F4:
        """The value of `read` alone [ADU]; raises as it does."""
        if self.temperature_c is None:
            return np.asarray(read_planes(self.path, ["SCI"], rows)[0], np.float32)
        b0, b1 = read_planes(self.path, ["SCI", "B1"], rows)
        return value_at(b0, b1, self.temperature_c - float(read_header(self.path)[T_REF]))

    def read(self, rows: slice = slice(None)) -> tuple[F4, F4, NDArray[np.uint16]]:
        """Value [ADU], 1 sigma [ADU] and bits of these rows; NO_BIAS where there is none.

        Raises
        ------
        ProductError
            when the file is missing or damaged.
        """
        if self.temperature_c is None:
            value, error, bits = read_planes(self.path, ["SCI", "ERR", "DQ"], rows)
        else:
            b0, b1, cov = read_planes(self.path, ["SCI", "B1", "COVAR"], rows)
            t_ref = float(read_header(self.path)[T_REF])
            shape = b0.shape
            flat = evaluate(b0.ravel(), b1.ravel(), cov.reshape(3, -1), self.temperature_c - t_ref)
            value, error = flat[0].reshape(shape), flat[1].reshape(shape)
            bits = np.zeros(shape, np.uint16)
        missing = ~np.isfinite(value)
        value, error, bits = np.asarray(value, np.float32), np.asarray(error, np.float32), np.asarray(bits, np.uint16)
        if missing.any():
            bits[missing] |= np.uint16(DQ.NO_BIAS)
            error[missing] = np.inf
        return value, error, bits


def line_through(
    masters: Sequence[Product], temperature_c: Sequence[float], t_ref_c: float, inputs: Sequence[str]
) -> Frame:
    """The per-pixel line through two or more master biases."""
    return _line_through(masters, temperature_c, t_ref_c, inputs).whole()


def write_line_through(
    path: Path, masters: Sequence[Product], temperature_c: Sequence[float], t_ref_c: float, inputs: Sequence[str]
) -> str:
    """Write the same, band by band: memory does not grow with the frame; returns the digest."""
    return _line_through(masters, temperature_c, t_ref_c, inputs).write(path)


def _line_through(
    masters: Sequence[Product], temperature_c: Sequence[float], t_ref_c: float, inputs: Sequence[str]
) -> InStrips:
    rows, cols = read_shape(masters[0])
    strips = _line_strips(masters, temperature_c, t_ref_c, rows, cols)
    return InStrips(_blank_line(rows, cols, t_ref_c, inputs), strips)


def _blank_line(rows: int, cols: int, t_ref_c: float, inputs: Sequence[str]) -> Frame:
    plane = blank((rows, cols), np.float32)
    return _line(plane, plane, blank((3, rows, cols), np.float32), t_ref_c, inputs)


def _line_strips(
    masters: Sequence[Product], temperature_c: Sequence[float], t_ref_c: float, rows: int, cols: int
) -> Iterator[Strip]:
    height = max(1, BAND_PIXELS // cols)

    def strip(band: slice) -> Strip:
        shape = (band.stop - band.start, cols)
        planes = [read_planes(m, ["SCI", "ERR"], band) for m in masters]
        values = np.stack([p[0].ravel() for p in planes])
        errors = np.stack([p[1].ravel() for p in planes])
        line = fit_bias_line(values, errors, np.asarray(temperature_c), t_ref_c)
        cov = line.covariance.reshape(3, *shape)
        return band, {"SCI": line.b0.reshape(shape), "B1": line.b1.reshape(shape), "COVAR": cov}

    yield from each_ahead(strip, (slice(r, min(r + height, rows)) for r in range(0, rows, height)), threads=2)


def adopt_bias_model(given: Sequence[Path], path: Path) -> str:
    """Write a bias model made elsewhere (see `find_bias_model`) in our own form; returns the digest.

    Raises
    ------
    ProductError
        when its maps cannot be read or have different shapes.
    """
    if len(given) == 1:
        b0, b1 = _read_image(given[0], "B0"), _read_image(given[0], "B1")
    else:
        b0, b1 = _read_image(given[0], ""), _read_image(given[1], "")
    if b0.shape != b1.shape or b0.ndim != 2:
        raise ProductError(f"the maps b0 and b1 have shapes {b0.shape} and {b1.shape}", where=given[0])
    cov = np.zeros((3, *b0.shape), np.float32)
    try:
        _check(given[0])
        with fits.open(given[0]) as hdus:
            t_ref = float(hdus[0].header.get(T_REF, 0.0))
            if "COVAR" in hdus:
                cov = np.array(hdus["COVAR"].data, np.float32)
    except Exception as error:  # the reader's own errors have no common base
        raise ProductError(f"the bias model cannot be read ({one_line(error)})", where=given[0]) from error
    return write_frame(path, _line(b0, b1, cov, t_ref, [p.name for p in given]))


def find_bias_model(path: Path) -> list[Path]:
    """The file or files of a bias model: one FITS file with the extensions B0 (or SCI) and B1, or a folder with
    `bias_model.fits` or with one map each, named bias_b0_map.fits and bias_b1_map.fits (or b0_map, bias_b0, b0).

    The maps are in native ADU and ADU/K; T_REF [°C] in the primary header says where b0 is quoted (0 °C without it).

    Raises
    ------
    ProductError
        when nothing of the kind is there.
    """
    if path.is_file():
        return [path]
    if (path / "bias_model.fits").is_file():
        return [path / "bias_model.fits"]
    for pattern in _GIVEN_NAMES:
        pair = [path / f"{pattern.format(b)}.fits" for b in ("b0", "b1")]
        if all(p.is_file() for p in pair):
            return pair
    raise ProductError(
        "no bias model was found", where=path, do="expected bias_model.fits, or bias_b0_map.fits with bias_b1_map.fits"
    )


def _check(path: Path) -> None:
    try:
        with opened_source(path) as source:
            check_structure(source)
    except FrameError as error:
        raise ProductError(f"the bias model cannot be read ({error.what})", where=path, do=error.do) from error


def _read_image(path: Path, name: str) -> F4:
    try:
        _check(path)
        with fits.open(path) as hdus:
            names = [name, "SCI"] if name == "B0" else [name]
            for n in names:
                if n and n in hdus:
                    return np.array(hdus[n].data, np.float32)
            if name:
                raise ProductError(f"the bias model has no extension {name}", where=path)
            image = next((h.data for h in hdus if h.data is not None and h.data.ndim == 2), None)
    except ProductError:
        raise
    except Exception as error:  # the reader's own errors have no common base
        raise ProductError(f"the bias model cannot be read ({one_line(error)})", where=path) from error
    if image is None:
        raise ProductError("the file holds no image", where=path)
    return np.array(image, np.float32)


def _line(b0: Any, b1: Any, covariance: Any, t_ref_c: float, inputs: Sequence[str]) -> Frame:
    cards: list[Card] = [
        (T_REF, t_ref_c, "[deg C] temperature at which b0 is quoted"),
        ("CONTENT", "bias model", "SCI is b0 [adu], B1 [adu/K], COVAR 00 01 11"),
    ]
    extra = {"B1": np.asarray(b1, np.float32), "COVAR": np.asarray(covariance, np.float32)}
    return Frame(np.asarray(b0, np.float32), header=cards, extra=extra, inputs=inputs)


def line_of_levels(level_adu: F4, variance_adu2: F4, temperature_c: Sequence[float]) -> Frame:
    """Fitted levels (n, rows, cols) at n temperatures as a line in temperature.

    One level has no slope. A pixel whose levels are known at fewer than two temperatures has NaN.
    """
    t_ref = float(round(float(np.mean(temperature_c))))
    shape = level_adu.shape[1:]
    if len(temperature_c) == 1:
        zero = np.zeros(shape, np.float32)
        return _line(level_adu[0], zero, np.stack([variance_adu2[0], zero, zero]), t_ref, [])
    flat = level_adu.reshape(len(temperature_c), -1)
    errors = np.sqrt(variance_adu2.reshape(flat.shape))
    line = fit_bias_line(flat, errors, np.asarray(temperature_c), t_ref)
    cov = line.covariance.reshape(3, *shape)
    return _line(line.b0.reshape(shape), line.b1.reshape(shape), cov, t_ref, [])


def bias_of_model(source: Product, name: str, line: bool) -> InStrips:
    """A bias as a line in temperature: the line itself, or a single master with a slope of zero; `name`: its file."""
    shape = read_shape(source)
    t_ref = float(read_header(source)[T_REF] if line else read_header(source).get("CCD-TEMP", 0.0))
    return InStrips(_blank_line(*shape, t_ref, [name]), ahead(_bias_strips(source, shape, line)))


def _bias_strips(source: Product, shape: tuple[int, int], line: bool) -> Iterator[Strip]:
    names = ["SCI", "B1", "COVAR"]
    for rows in rows_of(shape, 20):
        if line:
            yield rows, dict(zip(names, read_planes(source, names, rows), strict=True))
        else:
            value, error = read_planes(source, ["SCI", "ERR"], rows)
            zero = np.zeros_like(value)
            yield rows, {"SCI": value, "B1": zero, "COVAR": np.stack([error**2, zero, zero])}
