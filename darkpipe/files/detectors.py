"""The detectors of a focal plane: which there are, in folders of their own or as images of the same files."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from darkpipe.errors import FrameError, ProductError, SettingsError
from darkpipe.files.atomic import remove_drafts
from darkpipe.files.fits_bytes import named_images
from darkpipe.files.frames import find_frames
from darkpipe.files.sources import source_of
from darkpipe.files.tables import read_table, table_of, write_table
from darkpipe.regular import read_text, regular

RESERVED = ("logs", "survey")
"""Folders of the output directory that are no detector's."""


def units_of_file(path: Path) -> dict[str, Any]:
    """Images of a file by name, {'units': {name: number of the header unit}}; {'rejected': reason} for what is no FITS
    file. Reads the headers alone.

    Raises
    ------
    FrameError
        if the file cannot be read.
    """
    try:
        with open(path, "rb", opener=regular) as stream:
            return {"units": named_images(source_of(stream, os.fstat(stream.fileno()).st_size))}
    except FrameError as error:
        return {"rejected": error.what}
    except OSError as error:
        raise FrameError(f"cannot be read: {error.strerror or error}", where=path, do="Check the file.") from error


def folders_with_frames(root: Path, leave_out: Path) -> list[str]:
    """Names of the folders directly below `root` that hold frames, sorted; without the folder `leave_out`."""
    own = os.path.realpath(leave_out)
    folders = [entry for entry in sorted(root.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    return [folder.name for folder in folders if os.path.realpath(folder) != own and find_frames(folder)]


def detectors_in(files: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """How many files hold each detector, in the order in which they are first met."""
    return Counter(name for file in files for name in file.get("units", {}))


def chosen(found: Iterable[str], wanted: Sequence[str]) -> list[str]:
    """The detectors that are wanted, all if none is named, in the order found.

    Raises
    ------
    SettingsError
        for a name that is not there, or one that a folder of the output directory has; if there is none at all.
    """
    there = list(found)
    where = "detectors.names"
    if unknown := [name for name in wanted if name not in there]:
        few = ", ".join(there[:10]) + (", …" if len(there) > 10 else "")
        raise SettingsError(f"there is no detector {unknown[0]!r}", where=where, do=f"Found: {few or 'none'}")
    names = [name for name in there if not wanted or name in wanted]
    if not names:
        raise SettingsError("no detector was found", where="detectors.by", do="Is it a folder, or an HDU, a detector?")
    if taken := [name for name in names if name in RESERVED]:
        raise SettingsError(f"{taken[0]!r} cannot be the name of a detector", where=where, do="Rename its folder")
    return names


def remove_common_drafts(root: Path) -> None:
    """Remove drafts of runs over all detectors that crashed; those in the folder of a detector are of its own run,
    which has its own lock."""
    remove_drafts(root, deep=False)
    for folder in RESERVED:
        remove_drafts(root / folder)


def write_detectors(path: Path, by: str, counts: Mapping[str, int]) -> str:
    """Write detectors.ecsv: names, and for images of common files how many files hold each. Returns the digest."""
    rows: list[dict[str, Any]] = [{"name": name, "files": count} for name, count in counts.items()]
    table = table_of(rows)
    table.meta["by"] = by
    return write_table(path, table)


def read_detectors(path: Path) -> list[str]:
    """Names of the detectors of an output directory.

    Raises
    ------
    ProductError
        if there is no such table.
    """
    return [str(row["name"]) for row in read_table(path)]


def read_units(path: Path) -> dict[str, Any]:
    """What `units_of_file` found, from its file.

    Raises
    ------
    ProductError
        if it is damaged.
    """
    try:
        found: dict[str, Any] = json.loads(read_text(path))
        return found
    except (OSError, ValueError) as error:
        raise ProductError("the list of a file's images is damaged", where=path, do="Run again with --force") from error
