"""Tables on disk: ECSV (enhanced character-separated values), a text that people and astropy both read."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkpipe import plain_yaml
from darkpipe.deferred import imported
from darkpipe.errors import ProductError
from darkpipe.files.atomic import replace_text
from darkpipe.regular import read_text
from darkpipe.same_file import Identity, identity_if_there

if TYPE_CHECKING:
    from astropy.table import Table

ASTROPY = "astropy.table"  # imported when the first table is made or read: it takes longer than all the rest
_FORMAT = "ascii.ecsv"
_MOST_KEPT_BYTES = 4_000_000


def table_of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table with the union of the rows' columns, NaN where a row has none."""
    names = list(dict.fromkeys(k for r in rows for k in r))
    made: Table = imported(ASTROPY).Table(rows=[[r.get(n, math.nan) for n in names] for r in rows], names=names)
    return made


def write_table(path: Path, table: Table) -> str:
    """Write a table with its units, descriptions and `meta` as ECSV; the same table gives the same bytes.

    Returns
    -------
    str : xxh3_128 of the file, in hexadecimal.

    Raises
    ------
    ProductError : the file cannot be written.
    """
    text = io.StringIO(newline="")
    table.write(text, format=_FORMAT)
    _kept.cache_clear()  # the clock of a file system may be too coarse to tell two files apart
    return replace_text(path, text.getvalue().replace("\r\n", "\n"))


def read_table(path: Path) -> Table:
    """Read a table that `write_table` wrote; missing texts come back as '' (ECSV does not tell the two apart).

    A file is parsed once a process, as long as it stays the same; each caller has a copy of its own.

    Raises
    ------
    ProductError : the file is missing, unreadable or not such a table.
    """
    path = Path(path)
    file = identity_if_there(path)
    if file is None or file.size > _MOST_KEPT_BYTES:
        return _parsed(path)
    return _kept(path, file).copy()


@lru_cache(maxsize=64)
def _kept(path: Path, file: Identity) -> Table:
    """The table of this very file."""
    return _parsed(path)


def _parsed(path: Path) -> Table:
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise ProductError(
            "the table is missing", where=path, do="Run the step that makes it (or the pipeline without --from_step)."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProductError(f"the table cannot be read: {error}", where=path, do=_REMAKE) from error
    if not text.startswith("# %ECSV"):
        raise ProductError("the file is no ECSV table", where=path, do=_REMAKE)
    try:
        plain_yaml.check(_header(text))
        kinds = imported(ASTROPY)
        table: Table = kinds.Table.read(text, format=_FORMAT)
    except Exception as error:  # the reader's own errors have no common base
        raise ProductError(f"the table is damaged: {_first_line(error)}", where=path, do=_REMAKE) from error
    for name in table.colnames:
        column = table[name]
        if isinstance(column, kinds.MaskedColumn) and column.dtype.kind in "UO":
            about = {"unit": column.unit, "description": column.description, "meta": column.meta}
            table[name] = kinds.Column(column.filled(""), **about)
    return table


def _header(text: str) -> str:
    """The YAML before the rows, without the line that names the format."""
    lines = io.StringIO(text)
    next(lines)
    return "".join(line[2:] or "\n" for line in itertools.takewhile(lambda line: line.startswith("#"), lines))


_REMAKE = "Delete it and run again: it is made anew."


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
