"""Bands of rows of planes: how high they are, and rows that stand for a whole sensor."""

from __future__ import annotations

import numpy as np

BAND_BYTES = 16 << 20  # of all planes of a band together: they are read once and stay in the cache
SAMPLE_BANDS = 64


def rows_of(shape: tuple[int, int], bytes_a_pixel: int, multiple: int = 1) -> list[slice]:
    """Bands of a sensor (rows, cols) of which all planes together, so many bytes a pixel, stay within `BAND_BYTES`;
    their heights are multiples of a number of rows, and no less."""
    height = max(1, BAND_BYTES // max(1, bytes_a_pixel * shape[1]) // multiple) * multiple
    return [slice(r, min(r + height, shape[0])) for r in range(0, shape[0], height)]


def halves(rows: int) -> list[slice]:
    """The two halves of so many rows; one where there is a single row."""
    return [part for part in (slice(0, rows // 2), slice(rows // 2, rows)) if part.stop > part.start]


def sample_rows(shape: tuple[int, int], pixels: int) -> list[slice]:
    """All rows of a sensor (rows, cols), or, of one of more than so many pixels, bands of rows spread over it."""
    rows, cols = shape
    if rows * cols <= pixels:
        return [slice(0, rows)]
    height = max(1, pixels // (SAMPLE_BANDS * cols))
    starts = np.unique(np.linspace(0, rows - height, SAMPLE_BANDS).astype(int))
    return [slice(int(start), int(start) + height) for start in starts]
