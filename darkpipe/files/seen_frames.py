"""The raw frames that a model was made of (`dark_model/frames.ecsv`), and which frames of a campaign it has not seen.

A frame is known by the digest of its file, so neither a new name nor another place makes it new.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from darkpipe.deferred import imported
from darkpipe.errors import ProductError
from darkpipe.files.index import ACCEPTED, read_frames, read_index
from darkpipe.files.quiet import late_fits, quietly
from darkpipe.files.tables import ASTROPY, read_table, write_table

if TYPE_CHECKING:
    from astropy.table import Table

FRAMES = ("file", "date_obs", "digest")
_DIGEST = re.compile(rb"\b[0-9a-f]{32}\b")


def write_seen(
    path: Path,
    frames: Sequence[Sequence[str]],
    model_files: Sequence[Path],
    temperatures: Sequence[tuple[float, float, int]],
) -> str:
    """Write the frames (rows of `FRAMES`) of the model beside which `path` stands; returns the digest of the table.

    model_files : what the model consists of. Their checksums tell later whether a refit has begun to replace them.
    temperatures : that were fitted, [°C], with 1 sigma and the number of cells.
    """
    table: Table = imported(ASTROPY).Table(rows=[list(f) for f in frames], names=FRAMES, dtype=("U", "U", "U"))
    table.meta["files"] = {p.relative_to(path.parent).as_posix(): checksum(p) for p in model_files}
    table.meta["temperatures"] = [list(row) for row in temperatures]
    return write_table(path, table)


def read_temperatures(path: Path) -> list[tuple[float, float, int]]:
    """The temperatures that were fitted, as `write_seen` was given them; none where that is not known."""
    try:
        return [(float(t), float(sigma), int(n)) for t, sigma, n in read_table(path).meta["temperatures"]]
    except (ProductError, KeyError):
        return []


def checksum(path: Path) -> str:
    """Digest of a file's content, of a FITS file by the checksums in its headers: no plane is read."""
    with path.open("rb") as stream:
        if stream.read(6) != b"SIMPLE":
            return xxhash.xxh3_64_hexdigest(path.read_bytes())
    fits = late_fits()
    with quietly(), fits.open(path, memmap=True) as units:
        sums = [f"{unit.header.get('CHECKSUM')} {unit.header.get('DATASUM')}" for unit in units]
    return xxhash.xxh3_64_hexdigest(" ".join(sums).encode())


def has_unseen(index: Path, campaign: str, seen: Path) -> bool:
    """Whether the index holds accepted frames that the model has not seen, and the model is as it was fitted.

    A model that a refit began to replace, and a folder whose model is not known to have seen anything, give False.
    """
    if not _digests(index) - _digests(seen):
        return False  # the answer of most runs: large tables take longer to read than all the rest
    try:
        table = read_table(seen)
        known = {str(digest) for digest in table["digest"]}
        return any(f.digest not in known for f in read_frames(index, campaign)) and _is_whole(seen.parent, table)
    except (ProductError, KeyError):
        return False


def seen_cells(group_frames: Path, index: Path, campaign: str, seen: Path) -> set[str]:
    """The cells of a campaign that hold a frame which the model has seen: what it leaves of these is no test of it.

    group_frames : table of the frames of each cell. None are found where the model does not tell what it was made of.
    """
    if not (group_frames.is_file() and index.is_file() and _digests(index) & _digests(seen)):
        return set()
    known = {str(digest) for digest in read_table(seen)["digest"]}
    mine = {f.file for f in read_frames(index, campaign) if f.digest in known}
    return {str(r["cell"]) for r in read_table(group_frames) if str(r["file"]) in mine}


def _digests(table: Path) -> set[bytes]:
    """Whatever looks like the digest of a frame."""
    try:
        return set(_DIGEST.findall(table.read_bytes()))
    except OSError:
        return set()


def _is_whole(folder: Path, table: Table) -> bool:
    try:
        return all(checksum(folder / name) == then for name, then in table.meta["files"].items())
    except OSError:
        return False


def write_unseen(path: Path, index: Path, campaign: str, seen: Path) -> str:
    """Write the index of the frames of a campaign that the model has not seen; returns its digest."""
    known = {str(digest) for digest in read_table(seen)["digest"]}
    table = read_index(index)
    root = os.path.normpath(index.parent / table.meta["root"])
    new = [
        str(r["status"]) == ACCEPTED and str(r["campaign"]) == campaign and str(r["digest"]) not in known for r in table
    ]
    chosen = table[new]
    chosen["campaign"] = [""] * len(chosen)
    chosen.meta["root"] = Path(os.path.relpath(root, os.path.abspath(path.parent))).as_posix()
    return write_table(path, chosen)
