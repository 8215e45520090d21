"""Frames made here: empty primary HDU with the header, SCI float32, ERR float32 (1 sigma), DQ uint16, INPUTS table.

The same content gives the same bytes: no date stands in a product, and the checksum cards carry a fixed comment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import zip_longest
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import ProductError
from darkpipe.files import keywords as kw
from darkpipe.files.atomic import replace_file
from darkpipe.files.fits_cards import Cards
from darkpipe.files.fits_reading import MakePlane, Unplain, planes_of
from darkpipe.files.fits_writing import Unit, image_header, text_table, write_in_strips, write_units
from darkpipe.files.thread_memory import ThreadMemory
from darkpipe.regular import check_regular
from darkpipe.same_file import Identity, identity_if_there
from darkpipe.science.bit_planes import without_value
from darkpipe.science.flags import MODEL_INVALID
from darkpipe.version import __version__

if TYPE_CHECKING:
    from astropy.io import fits

Card = tuple[str, Any, str]


@dataclass
class Frame:
    """An image with its error and quality planes.

    science : (rows, cols) float32 [unit]; None for a product that is a table of planes only.
    error : (rows, cols) float32, 1 sigma. dq : (rows, cols) uint16, bits of `darkpipe.science.flags.DQ`.
    extra : further planes by extension name.
    header : cards of the primary HDU. inputs : names of the files it was made from.
    image_header : further cards of SCI alone, such as coordinates.
    """

    science: NDArray[Any]
    error: NDArray[np.float32] | None = None
    dq: NDArray[np.uint16] | None = None
    unit: str = "adu"
    header: list[Card] = field(default_factory=list)
    extra: dict[str, NDArray[Any]] = field(default_factory=dict)
    inputs: Sequence[str] = ()
    image_header: list[Card] = field(default_factory=list)

    @property
    def planes(self) -> dict[str, NDArray[Any]]:
        """The planes that are there, by extension name."""
        named: dict[str, NDArray[Any] | None] = {"SCI": self.science, "ERR": self.error, "DQ": self.dq, **self.extra}
        return {name: plane for name, plane in named.items() if plane is not None}


Product = Path | Frame
"""A product, on disk or in memory: what reads one does not ask which."""


def write_frame(path: Path, frame: Frame) -> str:
    """Write a frame; returns the digest of the file.

    Raises
    ------
    ProductError
        when the file cannot be replaced.
    """
    units = units_of(frame)
    return replace_file(path, lambda stream: write_units(units, stream))


def write_strips(path: Path, template: Frame, strips: Iterable[tuple[slice, Mapping[str, NDArray[Any]]]]) -> str:
    """Write a frame strip by strip, the same file as `write_frame` makes of the whole; returns its digest.

    Parameters
    ----------
    template : the frame; of its planes only shapes and types count (see `blank`).
    strips : rows and, of every plane, these rows, (..., rows, cols); all rows, in any order.

    Raises
    ------
    ProductError
        when the file cannot be replaced.
    """
    units = list(zip_longest([None, *template.planes], units_of(template)))
    return replace_file(path, lambda stream: write_in_strips(units, strips, stream))


def blank(shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    """A plane of zeros that takes no memory and cannot be written to."""
    return np.broadcast_to(np.zeros((), kind), shape)


def with_mask(frame: Frame) -> Frame:
    """The frame with a plane MASK for programs that know no bits: uint8, 1 where there is no value, or the model does
    not describe the pixel (`MODEL_INVALID`)."""
    if frame.dq is None:
        return frame
    mask = without_value(frame.science, frame.dq, int(MODEL_INVALID))
    return replace(frame, extra={**frame.extra, "MASK": mask})


def write_primary(path: Path, image: NDArray[Any], cards: Sequence[Card]) -> str:
    """Write an image into the primary HDU, as capture software does; returns the digest."""
    unit = primary_unit(image, cards)
    return replace_file(path, lambda stream: write_units([unit], stream))


def primary_unit(image: NDArray[Any], cards: Sequence[Card]) -> Unit:
    """An image as a primary header unit."""
    return Unit(_primary(cards, image.shape, image.dtype), image)


def units_of(frame: Frame) -> list[Unit]:
    """A frame as header units, in the order of the file."""
    units = [Unit(_primary(frame.header))]
    for name, plane in frame.planes.items():
        header = image_header(plane.shape, plane.dtype, name)
        if name in ("SCI", "ERR") and frame.unit:
            header.set("BUNIT", frame.unit)
        if name == "SCI":
            _fill(header, frame.image_header)
        units.append(Unit(header, plane))
    if len(frame.inputs):
        units.append(text_table("INPUTS", "FILE", [_printable(name) for name in frame.inputs]))
    return units


def _primary(cards: Sequence[Card], shape: Sequence[int] = (), kind: np.dtype[Any] | None = None) -> Cards:
    header = image_header(shape, kind or np.dtype(np.uint8))
    _fill(header, cards)
    header.set(kw.CREATOR, f"{kw.OURS}{__version__}", "software")
    return header


def _fill(header: Cards, cards: Sequence[Card]) -> None:
    for key, value, comment in _writable(cards):
        # a card has 80 characters: astropy would cut the comment as well, but warn
        room = (
            80 - len("KEYWORD =  / ") - max(20, len(repr(value)) + (value.count("'") if isinstance(value, str) else 0))
        )
        header.set(key, value, comment[: max(room, 0)])


def _writable(cards: Sequence[Card]) -> Iterator[Card]:
    """The cards that FITS has a way to write, as it writes them."""
    for key, value, comment in cards:
        if isinstance(value, float) and not np.isfinite(value):
            continue
        yield key, _printable(value) if isinstance(value, str) else value, comment


def _printable(text: str) -> str:
    """FITS holds printable ASCII alone; anything else is written as an escape, so that nothing is lost."""
    ascii_text = text.encode("ascii", "backslashreplace").decode()
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in ascii_text)


def _missing(path: Path) -> ProductError:
    return ProductError("a product is missing", where=path, do="run the step that makes it again")


def _unreadable(path: Path, error: Exception) -> ProductError:
    return ProductError(f"a product cannot be read ({error})", where=path, do="run with --force")


@contextmanager
def _opened(path: Path) -> Iterator[fits.HDUList]:
    from astropy.io import fits

    try:
        check_regular(path)
        with fits.open(path, memmap=False) as hdus:  # sections are read from the file all the same
            yield hdus
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _unreadable(path, error) from error


def read_planes(
    path: Product, names: Sequence[str], rows: slice = slice(None), memory: ThreadMemory | None = None
) -> list[NDArray[Any]]:
    """The named extensions of a frame, (rows, cols) each, native byte order; of a cube (n, rows, cols) the same rows of
    every plane. An absent one raises.

    memory : where they may be put, by the name of the file and their own, until these are read again.

    Raises
    ------
    ProductError
        when the file or an extension is missing or damaged.
    """
    if isinstance(path, Frame):
        return [np.array(path.planes[name][..., rows, :]) for name in names]

    def room(name: str) -> MakePlane:
        return np.empty if memory is None else partial(memory.plane, f"{path} {name}")

    return _read(path, names, rows, room)


def read_into_plane(path: Product, name: str, rows: slice, out: NDArray[Any]) -> None:
    """The same of one extension, into an array that is there, of the shape and type that these rows have.

    Raises
    ------
    ProductError
        as `read_planes`.
    """
    if isinstance(path, Frame):
        out[...] = path.planes[name][..., rows, :]
        return

    def room(shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
        return out.reshape(shape) if prod(shape) == out.size and out.dtype == kind else np.empty(shape, kind)

    (found,) = _read(path, [name], rows, lambda _: room)
    if not np.may_share_memory(found, out):
        out[...] = found


def _read(path: Path, names: Sequence[str], rows: slice, room: Callable[[str], MakePlane]) -> list[NDArray[Any]]:
    try:
        return _read_plain(path, names, rows, room)
    except Unplain:
        return _read_any(path, names, rows)
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise _unreadable(path, error) from error


def _read_plain(path: Path, names: Sequence[str], rows: slice, room: Callable[[str], MakePlane]) -> list[NDArray[Any]]:
    planes = planes_of(path)
    if rows.step not in (None, 1) or any(name not in planes for name in names):
        raise Unplain
    with open(path, "rb", buffering=0) as stream:
        bounds = [rows.indices(planes[name].shape[-2])[:2] for name in names]
        found = []
        for name, (first, last) in zip(names, bounds, strict=True):
            found.append(planes[name].read(stream.fileno(), first, max(first, last), room(name)))
        return found


def _read_any(path: Path, names: Sequence[str], rows: slice) -> list[NDArray[Any]]:
    with _opened(path) as hdus:
        out = []
        for name in names:
            hdu = hdus[name]
            plane = hdu.section[rows] if hdu.header["NAXIS"] == 2 else hdu.section[:, rows]
            out.append(np.array(plane, dtype=plane.dtype.newbyteorder("=")))
        return out


def read_layer(path: Path, name: str, number: int) -> NDArray[Any]:
    """One plane, (rows, cols), of an extension that is a cube of them; raises as `read_planes`."""
    try:
        cube = planes_of(path).get(name)
        if cube is None or len(cube.shape) != 3 or not 0 <= number < cube.shape[0]:
            raise Unplain
        with open(path, "rb", buffering=0) as stream:
            layer: NDArray[Any] = cube.layer(number).read(stream.fileno(), 0, cube.shape[1], np.empty)
            return layer
    except (Unplain, OSError):
        plane: NDArray[Any] = read_planes(path, [name])[0][number]
        return plane


def read_header(path: Product) -> Mapping[str, Any]:
    """The primary header of a product."""
    if isinstance(path, Frame):
        return {key: value for key, value, _ in _writable(path.header)}
    return dict(_cards_of(path, identity_if_there(path)))


@lru_cache(maxsize=1024)
def _cards_of(path: Path, file: Identity | None) -> dict[str, Any]:
    """Of this very file: a fit asks for the headers of the same masters for each of its tiles."""
    with _opened(path) as hdus:
        return dict(hdus[0].header)


def read_shape(path: Product) -> tuple[int, int]:
    """(rows, cols) of the SCI plane."""
    if isinstance(path, Frame):
        rows, cols = path.science.shape
        return int(rows), int(cols)
    try:
        planes = planes_of(path)
        rows, cols = planes["SCI"].shape
    except (OSError, Unplain, KeyError, ValueError):
        with _opened(path) as hdus:
            rows, cols = hdus["SCI"].shape
    return int(rows), int(cols)


def read_inputs(path: Path) -> list[str]:
    """Names of the files a product was made from."""
    with _opened(path) as hdus:
        return [str(name) for name in hdus["INPUTS"].data["FILE"]]
