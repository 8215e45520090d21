"""What a frame is, as astropy and a plain search of its cards see it: held against what was made of it.

Nothing of `darkpipe` is imported here.
"""

from __future__ import annotations

import gzip
import io
import math
import re
import warnings
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from astropy.io import fits

from corpus.document import Input

_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eEdD][+-]?\d+)?")
MOST_BYTES = 40 << 20  # of a stream that are looked at; no good frame of the corpus is larger
UNITS_S = (1.0, 1e-3, 1e-6, 60.0)


@dataclass(frozen=True)
class Taken:
    """What was made of an accepted frame. values : as later steps read them, (rows, cols)."""

    values: np.ndarray
    hdu: int
    exposure_s: float
    temperature_c: float
    kind: str


class WronglyTaken(AssertionError):
    """A frame was accepted that should not have been, refused although it is good, or read as something else."""


def unpacked(content: bytes) -> bytes:
    """The bytes of the file, also where they are in a gzip stream that may be torn."""
    if not content.startswith(b"\x1f\x8b"):
        return content
    out = bytearray()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            while len(out) < MOST_BYTES and (piece := stream.read(1 << 16)):
                out += piece
    except Exception:  # what came until then is judged
        pass
    return bytes(out)


def check_accepted(item: Input, taken: Taken) -> None:
    """Raise WronglyTaken unless an accepted frame is what its file holds."""
    if item.fate == "refused":
        raise WronglyTaken(f"{item.name}: accepted, but must be refused")
    if not (math.isfinite(taken.exposure_s) and taken.exposure_s >= 0):
        raise WronglyTaken(f"{item.name}: accepted with an exposure of {taken.exposure_s}")
    if not -273.15 < taken.temperature_c <= 100:
        raise WronglyTaken(f"{item.name}: accepted with {taken.temperature_c} °C")
    content = unpacked(item.content)
    pixels = expected_pixels(content, taken.hdu)
    if pixels is not None and not same_pixels(taken.values, pixels):
        raise WronglyTaken(f"{item.name}: its pixels are not those that astropy reads")
    if item.fate == "accepted" and item.truth is not None:
        _check_truth(item, taken)
    else:
        _check_numbers(item, taken, content)


def _check_truth(item: Input, taken: Taken) -> None:
    truth = item.truth
    assert truth is not None
    if truth.pixels is not None and not same_pixels(taken.values, truth.pixels):
        raise WronglyTaken(f"{item.name}: its pixels are not those that were written")
    if truth.exposure_s is not None and not math.isclose(
        taken.exposure_s, truth.exposure_s, rel_tol=1e-9, abs_tol=1e-300
    ):
        raise WronglyTaken(f"{item.name}: exposure {taken.exposure_s}, written were {truth.exposure_s} s")
    if truth.temperature_c is not None and not math.isclose(taken.temperature_c, truth.temperature_c, abs_tol=1e-6):
        raise WronglyTaken(f"{item.name}: {taken.temperature_c} °C, written were {truth.temperature_c}")


def _check_numbers(item: Input, taken: Taken, content: bytes) -> None:
    """Exposure and temperature must stand somewhere in the header, in some unit."""
    text = content[: 400 * 2880].decode("latin-1")
    cards = [text[n : n + 80] for n in range(0, len(text), 80)]
    numbers = {found for image in cards for found in numbers_in(image)}
    # long strings go on over further cards
    numbers |= {
        found
        for a, b in pairwise(cards)
        if b.startswith("CONTINUE")
        for found in numbers_in(a.rstrip().rstrip("'&") + b[8:].strip().strip("'"))
    }
    exposures = [n * unit for n in numbers for unit in UNITS_S] + [1 / n for n in numbers if n > 1e-9]
    if taken.kind != "bias" or taken.exposure_s != 0.0:
        _among(item, taken.exposure_s, exposures, "an exposure")
    celsius = [c for n in numbers for c in (n, n - 273.15, (n - 32.0) / 1.8)]
    _among(item, taken.temperature_c, celsius, "a temperature")


def _among(item: Input, value: float, numbers: list[float], what: str) -> None:
    if not any(math.isclose(value, n, rel_tol=1e-9, abs_tol=1e-8) for n in numbers):
        raise WronglyTaken(f"{item.name}: {what} of {value} that stands nowhere in the header")


def numbers_in(image: str) -> set[float]:
    """All numbers of a card."""
    found = set()
    for text in _NUMBER.findall(image[8:]) + _NUMBER.findall(image.partition("=")[2]):
        try:
            value = float(text.replace(",", ".").replace("d", "e").replace("D", "e"))
        except ValueError:
            continue
        if math.isfinite(value):
            found.add(value)
    return found


def expected_pixels(content: bytes, hdu: int) -> np.ndarray | None:
    """The image as astropy reads it; None where astropy cannot, or reads no plane."""
    # a second primary is no part of the file, and astropy counts its axes one by one
    second = next((n for n in range(2880, len(content), 2880) if content.startswith(b"SIMPLE", n)), len(content))
    content = content[:second]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with fits.open(io.BytesIO(content), memmap=False) as units:
                data = np.asarray(units[hdu].data)
            with fits.open(io.BytesIO(content), memmap=False, do_not_scale_image_data=True) as units:
                blank = units[hdu].header.get("BLANK")
                stored = np.asarray(units[hdu].data)
                if stored.dtype.kind in "iu" and isinstance(blank, int):  # astropy forgets it for unsigned integers
                    data = (
                        np.where(stored == blank, np.nan, data.astype(np.float64)) if (stored == blank).any() else data
                    )
        except Exception:  # astropy's own errors have no common base; then the truth alone can tell
            return None
    while data.ndim > 2 and data.shape[0] == 1:
        data = data[0]
    return data if data.ndim == 2 and data.dtype.kind in "uif" else None


def same_pixels(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether two images hold the same numbers, as far as the type of ours can tell."""
    if ours.shape != theirs.shape:
        return False
    with np.errstate(all="ignore"):
        if ours.dtype == np.float32:
            theirs = theirs.astype(np.float32)
            near = np.isclose(ours, theirs, rtol=3e-7, atol=0.0, equal_nan=True)
            return bool(np.all(near | (ours == theirs)))
        return bool(np.array_equal(ours, theirs))
