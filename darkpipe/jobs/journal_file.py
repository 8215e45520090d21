"""The lines of journal.jsonl: read, forgiving what a crash left; written anew when it is mostly history.

{"journal":1}                                                             the format
{"file":7,"path":"bias/a.fits","size":2880,"mtime_ns":1,"digest":"…"}     a version of a file, or its new time
{"recipe":"<digest>","is":{"function":…,"params":…,"step":…,"version":…}} settings that jobs refer to
{"job":"fit_dark_model","campaign":"","recipe":"…","inputs":[7],"outputs":[9],"requested":false,"label":"…","time":"…"}
{"drop":["bias/a.fits"]}                                                  products that were removed
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from darkpipe.errors import ProductError
from darkpipe.jobs.stamps import to_disk
from darkpipe.regular import regular

FORMAT = 1
RECIPE_START = b'{"recipe":"'
RECIPE_KEY = slice(len(RECIPE_START), len(RECIPE_START) + 32)
PARSED_AT_ONCE = 2000
HISTORY_LINES = 1000  # below that a journal is not worth rewriting


class FileLine(NamedTuple):
    """One version of a file."""

    number: int
    path: str
    size: int
    mtime_ns: int
    digest: str


class JobLine(TypedDict):
    """One finished job."""

    job: str
    campaign: str
    recipe: str
    inputs: list[int]
    outputs: list[int]
    requested: bool
    label: str
    time: str


FILE_TYPES = [int, str, int, int, str]
JOB_TYPES = {"job": str, "campaign": str, "recipe": str, "inputs": list, "outputs": list, "requested": bool,
             "label": str, "time": str}  # fmt: skip
DAMAGES = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What a line that makes no sense leads to."""


@dataclass
class Book:
    """What the journal says, in memory.

    files : every version of a file by its number, as the fields of a FileLine; latest : the number of the last version
        of a path; highest : of all numbers.
    made : the job that made a path last; jobs : all jobs, oldest first, as they were loaded.
    recipes : lines as they stand in the file: they are many bytes and rarely looked at.
    """

    files: dict[int, Sequence[Any]] = field(default_factory=dict)
    latest: dict[str, int] = field(default_factory=dict)
    made: dict[str, JobLine] = field(default_factory=dict)
    recipes: dict[str, bytes] = field(default_factory=dict)
    jobs: list[JobLine] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    highest: int = 0
    lines: int = 0
    whole_bytes: int = 0

    def add(self, entries: Iterable[Any]) -> None:
        """Take in parsed lines. Raises KeyError, TypeError or ValueError at one that makes no sense."""
        files, latest, made, jobs = self.files, self.latest, self.made, self.jobs
        for entry in entries:
            if "file" in entry:
                version = entry["file"]
                if type(version) is not list or [*map(type, version)] != FILE_TYPES:
                    raise ValueError(entry)
                _check_path(version[1])
                if files.get(version[0], version)[1] != version[1]:  # a number belongs to one path
                    raise ValueError(entry)
                files[version[0]] = version
                latest[version[1]] = version[0]
                if version[0] > self.highest:
                    self.highest = version[0]
            elif "job" in entry:
                if {name: type(value) for name, value in entry.items()} != JOB_TYPES:
                    raise ValueError(entry)
                for number in entry["inputs"]:
                    files[number]
                for path in [files[number][1] for number in entry["outputs"]]:
                    made[path] = entry
                jobs.append(entry)
            elif "drop" in entry:
                for path in entry["drop"]:
                    made.pop(path, None)
            elif entry["journal"] != FORMAT:
                raise ProductError("this journal was written by another version of the pipeline")

    def file(self, number: int) -> FileLine:
        """One version of a file."""
        return FileLine(*self.files[number])


def _check_path(path: str) -> None:
    """Raise ValueError for what can be no path of a file."""
    if "\0" in path or not path:
        raise ValueError(path)
    if not path.isascii():
        os.fsencode(path)


def encode(entry: Any) -> bytes:
    """One line of the journal, with its line feed."""
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def encode_recipe(key: str, text: str) -> bytes:
    """The line of a recipe, whose text is JSON already; it has no line feed."""
    return RECIPE_START + key.encode() + b'","is":' + text.encode() + b"}"


def load(path: Path) -> Book:
    """Read a journal. A torn last line is left out, a bad line in the middle skipped; both are said in `warnings`.

    Raises
    ------
    ProductError
        if the file cannot be read, or is of another format.
    """
    book = Book()
    try:
        with open(path, "rb", opener=regular) as stream:
            content = stream.read()
    except FileNotFoundError:
        return book
    except OSError as error:
        raise ProductError(f"cannot read the journal: {error.strerror}", where=path) from error
    book.whole_bytes = content.rfind(b"\n") + 1
    if book.whole_bytes < len(content):
        book.warnings.append(f"{path.name}: its last line was not finished and is left out")
    lines = content[: book.whole_bytes].splitlines()
    book.lines = len(lines)
    # hundreds of thousands of small dicts: the garbage collector would walk them again and again
    collecting = gc.isenabled()
    gc.disable()
    try:
        for start in range(0, len(lines), PARSED_AT_ONCE):
            _take_in(book, lines[start : start + PARSED_AT_ONCE], start + 1, path)
    finally:
        if collecting:
            gc.enable()
    return book


def _take_in(book: Book, lines: list[bytes], first_number: int, path: Path) -> None:
    recipes = [line for line in lines if line.startswith(RECIPE_START)]
    for line in recipes:
        book.recipes[line[RECIPE_KEY].decode("ascii", "replace")] = line
    plain = [line for line in lines if not line.startswith(RECIPE_START)] if recipes else lines
    try:
        # one call for many lines is three times as fast as a call for each
        entries = json.loads(b"[" + b",".join(plain) + b"]")
        if len(entries) != len(plain):
            raise ValueError("a line with two entries")
        book.add(entries)
    except DAMAGES:
        # adding an entry again changes nothing but the list of jobs, which only compaction reads, in order
        for number, line in enumerate(lines, first_number):
            if not line.startswith(RECIPE_START):
                _take_in_one(book, line, number, path)


def _take_in_one(book: Book, line: bytes, number: int, path: Path) -> None:
    try:
        book.add([json.loads(line)])
    except DAMAGES:
        book.warnings.append(f"{path.name}: line {number} cannot be understood and is skipped")


def compacted(path: Path, book: Book) -> Book:
    """Rewrite a journal that is mostly history. Returns what it says now, which is `book` if nothing was to be done.

    Raises
    ------
    ProductError
        if it cannot be written; the old file is in place then.
    """
    living = len({id(job) for job in book.made.values()})
    lines_of_files = book.lines - len(book.jobs) - len(book.recipes)
    if len(book.jobs) <= 2 * living + HISTORY_LINES and lines_of_files <= 2 * len(book.files) + HISTORY_LINES:
        return book
    lasting = list(_lasting_lines(book))
    draft = path.with_name(f".{path.name}.{os.getpid()}-0.draft")
    try:
        with open(draft, "wb") as file:
            file.writelines(lasting)
            file.flush()
            to_disk(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise ProductError(f"cannot rewrite the journal: {error.strerror}", where=path) from error
    # numbers that are not in the file any more must not be referred to: what counts is what stands there
    fresh = load(path)
    fresh.warnings[:0] = book.warnings
    return fresh


def _lasting_lines(book: Book) -> Iterator[bytes]:
    living = {id(job) for job in book.made.values()}
    jobs = list({id(job): job for job in book.jobs if id(job) in living}.values())
    used = {number for job in jobs for number in (*job["inputs"], *job["outputs"])}
    # the latest version of a path goes last, so that it is the latest again
    numbers = sorted(used, key=lambda number: (book.latest[book.file(number).path] == number, number))
    recipes = dict.fromkeys(job["recipe"] for job in jobs)
    yield encode({"journal": FORMAT})
    yield from (encode({"file": book.files[number]}) for number in numbers)
    yield from (book.recipes[key] + b"\n" for key in recipes if key in book.recipes)
    yield from map(encode, jobs)
    if dropped := _resurrected(book, jobs):
        yield encode({"drop": dropped})


def _resurrected(book: Book, jobs: Iterable[JobLine]) -> list[str]:
    """Outputs of living jobs that were dropped."""
    paths = dict.fromkeys(book.file(number).path for job in jobs for number in job["outputs"])
    return [path for path in paths if path not in book.made]
