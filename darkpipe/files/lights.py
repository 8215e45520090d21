"""Frames that are calibrated: their pixels, and those cards of their header that the calibrated frame keeps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import FrameError
from darkpipe.files import keywords as kw
from darkpipe.files import values
from darkpipe.files.fits_bytes import CARD, locate_image
from darkpipe.files.fits_cards import PLAIN, card_text
from darkpipe.files.headers import NO_SYNONYMS, FrameInfo, configuration_name, read_cards, usable_as
from darkpipe.files.pixels import decode
from darkpipe.files.products import Card
from darkpipe.files.quiet import quietly
from darkpipe.files.sources import Source, open_source, source_of
from darkpipe.files.survey import read_shared, read_whole
from darkpipe.files.thread_memory import ThreadMemory
from darkpipe.regular import regular


@dataclass(frozen=True)
class Described:
    """What the header of a frame says, the name of its configuration, and its cards."""

    info: FrameInfo
    configuration: str
    cards: tuple[values.Card, ...] = ()


def describe(path: Path, synonyms: Mapping[str, Sequence[str]] = NO_SYNONYMS) -> Described:
    """Read the header of a raw frame alone.

    Raises
    ------
    FrameError
        when it is none, or its header says no exposure.
    """
    try:
        layout = locate_image(open_source(read_whole(path)))
        info = read_cards(layout.cards, synonyms=synonyms)
    except FrameError as error:
        raise FrameError(error.what, where=path, do=error.do) from error
    if reason := usable_as(info, ("light", "flat", "dark", "bias", "other")):
        raise FrameError(reason, where=path, do="Give a raw frame.")
    return Described(info, configuration_name(info, layout.rows, layout.cols), layout.cards)


@dataclass(frozen=True)
class Light:
    """Raw counts (rows, cols) of a frame, and the cards of its header."""

    raw: NDArray[Any]
    cards: tuple[values.Card, ...]


def read_light(path: Path, hdu: int | None = None, memory: ThreadMemory | None = None) -> Light:
    """Read a raw frame whole; hdu : unit of its image, None: the first. memory : where its pixels may be put.

    Raises
    ------
    FrameError
        when it cannot be read any more.
    """
    try:
        if hdu is None:
            return _light(open_source(read_shared(path)), None, memory)
        with open(path, "rb", opener=regular) as stream:  # one image of many
            return _light(source_of(stream, os.fstat(stream.fileno()).st_size), hdu, memory)
    except OSError as error:
        raise FrameError(f"cannot be read: {error.strerror or error}", where=path, do="Run step 1 again.") from error
    except FrameError as error:
        raise FrameError(error.what, where=path, do=error.do) from error
    except MemoryError:
        raise FrameError("the frame does not fit into memory", where=path, do="Leave it out.") from None


def _light(source: Source, hdu: int | None, memory: ThreadMemory | None) -> Light:
    layout = locate_image(source, hdu)
    buffer = memory.array("raw", layout.count).view(np.uint16) if memory is not None and layout.is_uint16 else None
    return Light(decode(source, layout, buffer), layout.cards)


def kept_cards(cards: Iterable[values.Card], ours: Iterable[str]) -> tuple[list[Card], list[Card]]:
    """Cards of a raw header for the calibrated frame, and those of its coordinates, which belong to the image.

    Left out: what describes the raw pixels (type, scaling, pedestal, checksums), what is in `ours`, and what FITS does
    not allow.
    """
    replaced = {*kw.KEYWORDS["pedestal"], *kw.CALIBRATED[:1], *ours}
    kept: list[Card] = []
    coordinates: list[Card] = []
    with quietly():
        for card in cards:
            name = card.keyword
            if not name or name in replaced or card.value is None or kw.OF_RAW_PIXELS.fullmatch(name):
                continue
            found: Card = (name if PLAIN.fullmatch(name) else f"HIERARCH {name}", card.value, card.comment)
            if not _allowed(found):
                continue
            (coordinates if kw.COORDINATES.fullmatch(name) else kept).append(found)
    return kept, coordinates


def _allowed(card: Card) -> bool:
    try:
        return len(card_text(card[0], card[1], "")) % CARD == 0 and card[1] == card[1]  # NaN is not
    except Exception:  # astropy's own errors have no common base
        return False


def native(raw: NDArray[Any], scale_factor: float, pedestal_adu: float) -> NDArray[np.float32]:
    """Raw counts as zero-based native ADU, float32."""
    return np.asarray(raw, np.float32) / np.float32(scale_factor) + np.float32(pedestal_adu)
