"""Frames that are made in strips of rows: written as they come, so that no plane is in memory, or put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.atomic import replace_file
from darkpipe.files.fits_cards import Cards
from darkpipe.files.fits_writing import StripWriter, Unit
from darkpipe.files.products import Card, Frame, primary_unit, units_of

Strip = tuple[slice, Mapping[str, NDArray[Any]]]
"""Rows and, of every plane, these rows, (..., rows, cols)."""


@dataclass(frozen=True)
class InStrips:
    """A frame that is made once, strip by strip.

    template : the frame; of its planes only shapes and types count (see `products.blank`). strips : all rows, in any
    order. cards : those of the header when the last strip has come, as many as the template has; None: the same.
    """

    template: Frame
    strips: Iterable[Strip]
    cards: Callable[[], list[Card]] | None = None

    def whole(self) -> Frame:
        """The frame in memory."""
        (frame,) = whole_frames([self.template], ((rows, [planes]) for rows, planes in self.strips))
        return frame if self.cards is None else replace(frame, header=self.cards())

    def write(self, path: Path) -> str:
        """Write it, the same file as `write_frame` makes of the whole; returns its digest.

        Raises
        ------
        ProductError
            when the file cannot be replaced.
        """

        def run(stream: BinaryIO) -> None:
            writer = StripWriter(_units(self.template), stream)
            for rows, planes in self.strips:
                writer.put(rows, planes)
            writer.close(self._headers())

        return replace_file(path, run)

    def _headers(self) -> list[Cards] | None:
        if self.cards is None:
            return None
        return [unit.header for unit in units_of(replace(self.template, header=self.cards()))]


def whole_frames(
    templates: Sequence[Frame], strips: Iterable[tuple[slice, Sequence[Mapping[str, NDArray[Any]]]]]
) -> list[Frame]:
    """Frames in memory that are made together: of each strip the rows, and the planes of every frame."""
    planes = [{name: np.empty(p.shape, p.dtype) for name, p in frame.planes.items()} for frame in templates]
    for rows, made in strips:
        for mine, given in zip(planes, made, strict=True):
            for name, plane in given.items():
                mine[name][..., rows, :] = plane
    frames = []
    for template, mine in zip(templates, planes, strict=True):
        science, error, dq = (mine.pop(name, None) for name in ("SCI", "ERR", "DQ"))
        assert science is not None
        frames.append(replace(template, science=science, error=error, dq=dq, extra=mine))
    return frames


def write_together(
    paths: Sequence[Path],
    templates: Sequence[Frame],
    strips: Iterable[tuple[slice, Sequence[Mapping[str, NDArray[Any]]]]],
) -> list[str]:
    """Write frames that are made together, strip by strip; returns the digests.

    Raises
    ------
    ProductError
        when a file cannot be replaced: those after it in the order were replaced before.
    """
    digests: list[str] = []

    def run(writers: list[StripWriter]) -> None:
        if len(writers) == len(paths):
            for rows, frames in strips:
                for writer, planes in zip(writers, frames, strict=True):
                    writer.put(rows, planes)
            return
        number = len(writers)

        def begin(stream: BinaryIO) -> None:
            writer = StripWriter(_units(templates[number]), stream)
            run([*writers, writer])
            writer.close()

        digests.insert(0, replace_file(paths[number], begin))

    run([])
    return digests


def write_primary_strips(
    path: Path,
    image: NDArray[Any],
    strips: Iterable[tuple[slice, NDArray[Any]]],
    cards: Callable[[], list[Card]],
) -> str:
    """Write an image into the primary HDU strip by strip, the same file as `write_primary` makes; returns the digest.

    Parameters
    ----------
    image : of its pixels only shape and type count. cards : of the header, as many when the last strip has come as
        before.
    """

    def run(stream: BinaryIO) -> None:
        writer = StripWriter([("SCI", primary_unit(image, cards()))], stream)
        for rows, pixels in strips:
            writer.put(rows, {"SCI": pixels})
        writer.close([primary_unit(image, cards()).header])

    return replace_file(path, run)


def _units(template: Frame) -> list[tuple[str | None, Unit]]:
    return list(zip_longest([None, *template.planes], units_of(template)))
