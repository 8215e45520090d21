"""Sixteen-bit pixels that are decoded, hashed and counted while their file is read: each piece is still in the cache
then, where a frame is not when all of it is there."""

from __future__ import annotations

import sys

import numpy as np
import xxhash
from numpy.typing import NDArray

from darkpipe.errors import FrameError
from darkpipe.files.fits_bytes import ImageLayout, locate_image
from darkpipe.files.pixels import Histogram, divisor_of
from darkpipe.files.sources import BytesSource


class CountedPixels:
    """The pixels of one file, as far as its bytes have come. `layout` is None until a header tells of sixteen unsigned
    bits, and where it tells of anything else."""

    def __init__(self) -> None:
        self.layout: ImageLayout | None = None
        self._looked = False
        self._at = 0  # bytes of the file that were taken

    def take(self, content: memoryview, done: int) -> None:
        """The first `done` bytes of the file are in `content`, whose length is the file's; those of pixels are replaced
        by their values."""
        if not self._looked:
            self._looked = True
            self._begin(content, done)
        if self.layout is None:
            return
        end = min(done, self.layout.begin + self.layout.count) // 2 * 2
        if end > self._at:
            self._counts.decode(np.frombuffer(content[self._at : end], np.uint16))
            self._hasher.update(content[self._at : end])
            self._at = end

    def _begin(self, content: memoryview, done: int) -> None:
        if sys.byteorder != "little" or bytes(content[:6]) != b"SIMPLE":
            return
        try:
            layout = locate_image(BytesSource(content))
        except FrameError:  # told when all of the file is there
            return
        if layout.is_uint16 and not layout.compressed and layout.begin <= done and layout.begin % 2 == 0:
            from darkpipe.science.histogram_kernel import Counts  # the compiler takes its time to import

            self.layout, self._at, self._content = layout, layout.begin, content
            self._counts, self._hasher = Counts(), xxhash.xxh3_128()

    @property
    def pixels(self) -> NDArray[np.uint16]:
        """(rows, cols), once all of the file was taken; over its bytes."""
        assert self.layout is not None
        begin, count = self.layout.begin, self.layout.count
        stored = np.frombuffer(self._content[begin : begin + count], np.uint16)
        return stored.reshape(self.layout.rows, self.layout.cols)

    def measured(self) -> tuple[Histogram, str]:
        """Of all pixels, and the digest of their values; to be asked once."""
        values, counts = self._counts.distinct()
        return Histogram(values, counts, float(divisor_of(values) or 1)), self._hasher.hexdigest()
