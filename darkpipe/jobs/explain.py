"""Where a product comes from: the chain back to the raw frames, as text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from darkpipe.errors import ProductError, printable
from darkpipe.jobs.journal import Journal
from darkpipe.jobs.journal_file import FileLine, JobLine

SHOWN = 12
SHOWN_OF_MANY = 3


def explain(journal: Journal, path: Path) -> str:
    """The tree below a product: step, label, params, and the same for each input down to the raw frames.

    Of more than twelve inputs of one kind the first three are shown; a product that stands twice in the tree is
    opened once.

    Raises
    ------
    ProductError
        if the journal does not know the file.
    """
    key = journal.key(path)
    if journal.maker(key) is None:
        raise ProductError(
            "the journal of this output directory does not know this file",
            where=path,
            do="Name a product, relative to the output directory",
        )
    return "\n".join(map(printable, _tree(journal, key, 0, set())))


def _tree(journal: Journal, key: str, depth: int, opened: set[str]) -> Iterator[str]:
    pad = "    " * depth
    made = journal.maker(key)
    if made is None:
        yield f"{pad}{key}"
        return
    if key in opened:
        yield f"{pad}{key}  (see above)"
        return
    opened.add(key)
    yield f"{pad}{key}"
    yield from (f"{pad}  {line}" for line in _description(journal, made))
    for group in _groups(journal, journal.files(made["inputs"])):
        shown = group if len(group) <= SHOWN else group[:SHOWN_OF_MANY]
        for file in shown:
            yield from _tree(journal, file.path, depth + 1, opened)
            if _moved_on(journal, file):
                yield f"{pad}      (made anew since)"
        if len(shown) < len(group):
            yield f"{pad}    ... and {len(group) - len(shown)} more, to {group[-1].path}"


def _description(journal: Journal, made: JobLine) -> Iterator[str]:
    recipe = journal.recipe(made)
    version = "" if recipe is None else f" (version {recipe['version']})"
    yield f"step {made['job']}{version}: {made['label'] or 'no label'}, {made['time']}"
    if recipe is not None:
        for name, value in recipe["params"].items():
            text = json.dumps(value, ensure_ascii=False)
            yield f"{name} = {text if len(text) <= 100 else text[:97] + '...'}"


def _groups(journal: Journal, files: list[FileLine]) -> list[list[FileLine]]:
    """Inputs that were made by the same step stand together, in the order in which they are first named."""
    groups: dict[str, list[FileLine]] = {}
    for file in files:
        made = journal.maker(file.path)
        groups.setdefault("" if made is None else made["job"], []).append(file)
    return list(groups.values())


def _moved_on(journal: Journal, file: FileLine) -> bool:
    """Whether a product was remade with other content after it was used here."""
    made = journal.maker(file.path)
    if made is None:
        return False
    now = next((f for f in journal.files(made["outputs"]) if f.path == file.path), file)
    return now.digest != file.digest
