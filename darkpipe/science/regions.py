"""Which pixels of an EM-CCD frame are what: image, shielded and active pixels, prescan, telemetry rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import DesignError


@dataclass(frozen=True)
class Area:
    """A rectangle of pixels, counted from 0."""

    first_row: int
    first_col: int
    rows: int
    cols: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """What cuts the area out of an array (..., rows, cols), after an Ellipsis."""
        return (
            slice(self.first_row, self.first_row + self.rows),
            slice(self.first_col, self.first_col + self.cols),
        )


@dataclass(frozen=True)
class DetectorRegions:
    """Geometry of a full frame.

    rows, cols : of the full frame.
    image : what a dark is wanted for, the image area.
    active : all pixels that collect dark current, shielded ones included; None: the image area.
    prescan : pixels that collect none; None: the camera has none.
    telemetry_rows : first row and the row after the last; negative ones count from the end, None is the end. Empty
        where both are equal.

    Raises
    ------
    DesignError : an area that does not lie in the frame, or telemetry rows inside the image area.
    """

    rows: int
    cols: int
    image: Area
    active: Area | None = None
    prescan: Area | None = None
    telemetry_rows: tuple[int, int | None] = (0, 0)

    def __post_init__(self) -> None:
        for name in ("image", "active", "prescan"):
            area: Area | None = getattr(self, name)
            if area is None:
                continue
            inside = area.first_row + area.rows <= self.rows and area.first_col + area.cols <= self.cols
            if min(area.first_row, area.first_col) < 0 or min(area.rows, area.cols) < 1 or not inside:
                raise DesignError(
                    f"the {name} area does not lie in a frame of {self.rows} x {self.cols} pixels",
                    where=f"detector regions: {name}",
                )
        rows = self.image.slices[0]
        if self.telemetry[rows].any():
            raise DesignError("telemetry rows lie in the image area", where="detector regions: telemetry_rows")

    @classmethod
    def whole(cls, rows: int, cols: int) -> DetectorRegions:
        """A camera whose frames are all image."""
        return cls(rows, cols, Area(0, 0, rows, cols))

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.cols

    @property
    def collecting(self) -> Area:
        """The active pixels."""
        return self.active or self.image

    @property
    def telemetry(self) -> NDArray[np.bool_]:
        """(rows,) true for the rows that hold telemetry, no pixels."""
        rows = np.zeros(self.rows, np.bool_)
        rows[slice(*self.telemetry_rows)] = True
        return rows


ROMAN_CORONAGRAPH = DetectorRegions(
    rows=1200,
    cols=2200,
    image=Area(13, 1088, 1024, 1024),
    active=Area(0, 1088, 1037, 1056),
    prescan=Area(0, 0, 1200, 1088),
    telemetry_rows=(-1, None),
)
"""Science frames of the EXCAM of the Roman Coronagraph."""
