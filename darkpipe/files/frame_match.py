"""Is a frame of the configuration that a model was made for, and which part of it does it show?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from darkpipe.errors import FrameError

_SHAPE = re.compile(r"(\d+)x(\d+)")
_ORIGIN = re.compile(r"at(\d+)x(\d+)")
_NUMBER = r"-?[\d.]+(?:e[+-]?\d+)?"
_KINDS = (
    ("EM gain", re.compile(f"em({_NUMBER})")),
    ("gain", re.compile(f"g({_NUMBER})")),
    ("offset", re.compile(f"o({_NUMBER})")),
    ("binning", re.compile(r"b(\d+(?:x\d+)?)")),
    ("orientation", re.compile(r"(bottomup)")),
    ("serial number", re.compile(r"s(.+)")),
    ("read-out mode", re.compile(r"m(.+)")),
    ("flip", re.compile(r"f(.+)")),
)  # as `headers.configuration_name` writes them


@dataclass(frozen=True)
class Window:
    """A part of the model's frame: first row and column, and its size."""

    row: int
    col: int
    rows: int
    cols: int

    def of(self, plane: NDArray[Any]) -> NDArray[Any]:
        """This part of a plane of the model's frame."""
        return plane[self.row : self.row + self.rows, self.across]

    @property
    def across(self) -> slice:
        """Its columns."""
        return slice(self.col, self.col + self.cols)


@dataclass(frozen=True)
class _Parts:
    """A configuration taken apart: what must agree, by kind, the origin (x, y) and the shape (rows, cols)."""

    fixed: dict[str, str]
    origin: tuple[int, int]
    shape: tuple[int, int]


def _parts(name: str) -> _Parts:
    *parts, shape = name.split("_")
    found = _SHAPE.fullmatch(shape)
    if found is None:
        raise FrameError(f"{name or 'nothing'} is no configuration that darkpipe names", do="fit the model again")
    fixed: dict[str, str] = {}
    origin = (0, 0)
    for position, part in enumerate(parts):
        where = _ORIGIN.fullmatch(part)
        if where is not None:
            origin = (int(where[1]), int(where[2]))
            continue
        kinds = [(kind, m[1]) for kind, pattern in _KINDS if (m := pattern.fullmatch(part))]
        numbers = [pair for pair in kinds if pair[0] in ("EM gain", "gain", "offset", "binning")]
        if position == 0 and not numbers:
            fixed["camera"] = part
        elif kinds:
            fixed[kinds[0][0]] = kinds[0][1]
    return _Parts(fixed, origin, (int(found[1]), int(found[2])))


def named_settings(configuration: str) -> dict[str, str]:
    """What the name of a configuration says: 'camera', 'gain', 'EM gain', 'offset', 'binning', 'orientation', ….

    Raises
    ------
    FrameError
        for a name that darkpipe does not give.
    """
    return _parts(configuration).fixed


def is_bottom_up(configuration: str) -> bool:
    """Whether the frames of a configuration say that their first row is the lowest one (ROWORDER)."""
    return "orientation" in named_settings(configuration)


def window_of(frame: str, model: str) -> Window:
    """The part of a model's frame that a frame shows, both given by the names of their configurations.

    Camera, serial number, gains, offset, binning, read-out mode and orientation must agree; a frame may be a sub-frame
    of the model's.

    Raises
    ------
    FrameError
        naming both configurations and what differs.
    """
    mine, theirs = _parts(frame), _parts(model)
    kinds = [k for k in dict.fromkeys((*mine.fixed, *theirs.fixed)) if mine.fixed.get(k) != theirs.fixed.get(k)]
    told = [f"{k} {mine.fixed.get(k, 'not stated')} against {theirs.fixed.get(k, 'not stated')}" for k in kinds]
    col, row = mine.origin[0] - theirs.origin[0], mine.origin[1] - theirs.origin[1]
    (rows, cols), (all_rows, all_cols) = mine.shape, theirs.shape
    if not told and not (0 <= row <= all_rows - rows and 0 <= col <= all_cols - cols):
        told = [
            f"{rows} x {cols} pixels from row {mine.origin[1]}, column {mine.origin[0]} do not lie inside of "
            f"{all_rows} x {all_cols} from row {theirs.origin[1]}, column {theirs.origin[0]}"
        ]
    if told:
        raise FrameError(
            f"these frames are of the configuration {frame}, the model of {model}: {'; '.join(told)}",
            do="Use the model of this camera with the same gain, offset, binning and read-out mode.",
        )
    return Window(row, col, rows, cols)
