"""The exposure of the flats, from their headers: flat darks must have the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from darkpipe.errors import FrameError
from darkpipe.files.fits_bytes import locate_image
from darkpipe.files.frames import find_frames
from darkpipe.files.headers import read_cards
from darkpipe.files.sources import opened_source
from hardware.planning.slots import exposure_text

SAME = 0.01
"""Exposures within 1 % are the same: drivers report 0.4998 s and 0.5001 s for one setting."""


@dataclass(frozen=True)
class FlatExposure:
    """What was found.

    seconds : exposure that most flats have; None: it could not be told. why : in words. files : flats with it.
    """

    seconds: float | None
    why: str
    files: tuple[Path, ...] = ()


def detect_flat_exposure(folder: Path) -> FlatExposure:
    """The exposure that most flats of a folder have; sub-folders are searched, headers alone are read.

    Single frames count that their headers call flats; where no header of the folder says what its frame is, all count.
    Nothing is ever assumed: without an answer `seconds` is None. Of exposures that are equally frequent the longest is
    taken; `why` names the others.
    """
    try:
        paths = find_frames(folder)
    except FrameError as error:
        return FlatExposure(None, f"no flats: {error}")
    flats: list[tuple[Path, float]] = []
    nameless: list[tuple[Path, float]] = []
    others = unreadable = 0
    for path in paths:
        found = _kind_and_exposure(path)
        if found is None:
            unreadable += 1
        elif found[0] == "flat":
            flats.append((path, found[1]))
        elif found[0] == "":
            nameless.append((path, found[1]))
        else:
            others += 1
    return _most_frequent(flats or ([] if others else nameless), len(paths), unreadable, folder)


def _most_frequent(flats: list[tuple[Path, float]], total: int, unreadable: int, folder: Path) -> FlatExposure:
    if not flats:
        bad = f", {unreadable} of them without a readable exposure" if unreadable else ""
        return FlatExposure(None, f"no flat with an exposure among the {total} frames in {folder}{bad}")
    groups: list[list[tuple[Path, float]]] = []
    for path, seconds in sorted(flats, key=lambda flat: flat[1]):
        if groups and seconds <= groups[-1][0][1] * (1 + SAME):
            groups[-1].append((path, seconds))
        else:
            groups.append([(path, seconds)])
    best = max(groups, key=lambda group: (len(group), group[0][1]))
    seconds = Counter(exposure for _, exposure in best).most_common(1)[0][0]
    why = f"{len(best)} of {len(flats)} flats in {folder} have {exposure_text(seconds)} s"
    if len(groups) > 1:
        rest = ", ".join(f"{len(g)} × {exposure_text(g[0][1])} s" for g in groups if g is not best)
        why += f"; the others are left out: {rest}"
    return FlatExposure(seconds, why, tuple(path for path, _ in best))


def _kind_and_exposure(path: Path) -> tuple[str, float] | None:
    """What a frame says it is ('': nothing) and its exposure [s]; None if that cannot be read, or is 0 s."""
    try:
        with opened_source(path) as source:
            info = read_cards(locate_image(source).cards)
    except FrameError:
        return None
    return ("" if info.kind_assumed else info.kind, info.exposure_s) if info.exposure_s else None
