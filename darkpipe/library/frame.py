"""An image with its error and quality planes, as the library hands it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import SettingsError
from darkpipe.files import products
from darkpipe.files.synthetic import raw_counts
from darkpipe.science.flags import DQ, MODEL_INVALID

if TYPE_CHECKING:
    from astropy.nddata import CCDData


@dataclass(frozen=True, eq=False)
class Frame:
    """An image, its 1 sigma and its quality bits.

    Attributes
    ----------
    science : (rows, cols) float32, the image [`unit`]; NaN where a pixel has no value.
    error : (rows, cols) float32, 1 sigma [`unit`]; None: not known.
    dq : (rows, cols) uint16, bits of `darkpipe.DQ`.
    unit : of the image and its error, as a string that `astropy.units` reads; '' for a number.
    cards : (keyword, value, comment) of the header.

    Examples
    --------
    >>> import numpy as np
    >>> from darkpipe import DQ, Frame
    >>> frame = Frame(np.ones((2, 3), np.float32), dq=np.zeros((2, 3), np.uint16))
    >>> frame.shape, frame.unit
    ((2, 3), 'adu')
    """

    science: NDArray[Any]
    error: NDArray[np.float32] | None = None
    dq: NDArray[np.uint16] = field(default_factory=lambda: np.zeros((0, 0), np.uint16))
    unit: str = "adu"
    cards: tuple[products.Card, ...] = ()

    def __repr__(self) -> str:
        planes = [name for name in ("error", "dq") if getattr(self, name) is not None]
        rows, cols = self.science.shape
        return f"<Frame {rows} x {cols}, {self.unit or 'without unit'}, with {' and '.join(planes)}>"

    def __post_init__(self) -> None:
        if self.dq.size == 0:
            object.__setattr__(self, "dq", np.zeros(self.science.shape, np.uint16))
        for name, plane in (("error", self.error), ("dq", self.dq)):
            if plane is not None and plane.shape != self.science.shape:
                raise SettingsError(f"{name} has the shape {plane.shape}, the image {self.science.shape}")

    @classmethod
    def of(cls, product: products.Frame) -> Frame:
        """A product of the pipeline as the library hands it out."""
        return cls(product.science, product.error, _bits(product), product.unit, tuple(product.header))

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        rows, cols = self.science.shape
        return int(rows), int(cols)

    @property
    def header(self) -> Mapping[str, Any]:
        """Values of the header by keyword: model, temperature, exposure, what was fitted, …"""
        return products.read_header(self._product())

    def flagged(self, bits: DQ | int = MODEL_INVALID) -> NDArray[np.bool_]:
        """(rows, cols), true where a pixel has one of these bits, or no value."""
        return np.asarray(((self.dq & int(bits)) != 0) | ~np.isfinite(self.science), np.bool_)

    def to_ccddata(self, bits: DQ | int = MODEL_INVALID) -> CCDData:
        """As `astropy.nddata.CCDData`, as ccdproc and photutils take it.

        Parameters
        ----------
        bits : pixels with one of these are masked, beside those without a value. Hot and warm pixels are well
            described by a model and therefore not masked unless they are asked for.

        Returns
        -------
        CCDData
            with the error as StdDevUncertainty, the mask, the bits as `flags`, the header as `meta`; copies.

        Examples
        --------
        >>> import numpy as np
        >>> from darkpipe import DQ, Frame
        >>> bits = np.array([[0, DQ.UNSTABLE, DQ.HOT]], np.uint16)
        >>> ccd = Frame(np.ones((1, 3), np.float32), np.ones((1, 3), np.float32), bits).to_ccddata()
        >>> ccd.mask.tolist(), str(ccd.unit)
        ([[False, True, False]], 'adu')
        """
        from astropy.nddata import CCDData, StdDevUncertainty

        error = None if self.error is None else StdDevUncertainty(self.error.copy(), unit=self.unit or None)
        found = CCDData(
            self.science.copy(), error, mask=self.flagged(bits), unit=self.unit or "", meta=dict(self.header)
        )
        found.flags = self.dq.copy()
        return found

    def write(self, path: str | PathLike[str], dtype: Literal["float32", "uint16"] = "float32") -> Path:
        """Write the frame as FITS, as the pipeline does; a file that is there is replaced as a whole.

        Parameters
        ----------
        dtype : 'float32': extensions SCI, ERR, DQ, MASK. 'uint16': raw counts in the primary HDU, as a camera gives
            them (times the card SCALE, rounded, clipped to 0 to 65535).

        Raises
        ------
        ProductError
            when the file cannot be written.
        SettingsError
            for another dtype.
        """
        target = Path(path)
        if dtype == "float32":
            products.write_frame(target, products.with_mask(self._product()))
        elif dtype == "uint16":
            scale = self.header.get("SCALE", 1.0)
            products.write_primary(target, *raw_counts(self._product(), scale))
        else:
            raise SettingsError(f"a frame is written as float32 or uint16, not {dtype!r}", where="dtype")
        return target

    def _product(self) -> products.Frame:
        return products.Frame(self.science, self.error, self.dq, self.unit, list(self.cards))


def _bits(product: products.Frame) -> NDArray[np.uint16]:
    return np.zeros(product.science.shape, np.uint16) if product.dq is None else product.dq
