"""Both journals, of jobs and of frames, with lines that nobody wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

from corpus.document import Input
from corpus.texts import spoiled

RECIPE = "0" * 32
JOB = {
    "job": "copy",
    "campaign": "",
    "recipe": RECIPE,
    "inputs": [1],
    "outputs": [2],
    "requested": False,
    "label": "a.txt",
    "time": "2025-01-01T00:00:00+00:00",
}
JOBS: tuple[dict[str, Any], ...] = (
    {"journal": 1},
    {"file": [1, "in.txt", 6, 1, "0" * 32]},
    {"file": [2, "a.txt", 6, 1, "1" * 32]},
    {"recipe": RECIPE, "is": {"function": "f", "params": {"k": 1}, "step": "copy", "version": 1}},
    JOB,
    {"drop": ["b.txt"]},
)
CAMERA = {"name": "Corpus", "camera_id": "c1", "sensor_cols": 64, "sensor_rows": 48}
SLOT = "T-10.0C/dark/2s/001"
STAMP = "20250101_000000"
FRAMES: tuple[dict[str, Any], ...] = (
    {"frames": 1},
    {"session": "S", "stamp": STAMP, "configuration": {"gain": 1}, "utc": "2025-01-01T00:00:00+00:00"},
    {"camera": {"address": "127.0.0.1:1"}, "info": CAMERA},
    {"slot": SLOT, "stamp": STAMP, "path": "exp_2.000s/dark_20250101_000000_001.fits"},
    {"begin": SLOT, "stamp": STAMP, "utc": "2025-01-01T00:00:00.000+00:00"},
    {"taken": SLOT, "stamp": STAMP, "digest": "0" * 32, "size": 2880, "mtime_ns": 1},
    {"rejected": SLOT, "stamp": STAMP, "path": "rejected/x.fits", "reasons": ["why"]},
    {"lost": SLOT, "stamp": STAMP, "path": "rejected/y.fits", "reasons": ["why"]},
)
ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1.5,
        2,
        3,
        10**30,
        float("nan"),
        float("inf"),
        "",
        "x",
        "a.txt",
        "in.txt",
        [],
        [1],
        [2],
        [99],
        {},
        {"a": 1},
    ),
    *(
        "../../../etc/passwd",
        "/etc/passwd",
        "a/../../b.txt",
        "a\0b",
        "\ud800",
        "x" * 10_000,
        "a\nb",
        [[[]]],
        "..",
        ".",
        "abcde",
        [1, 2, 3, 4, 5],
    ),
)
LINES = (
    b"",
    b"{}",
    b"[]",
    b"null",
    b"1",
    b'"x"',
    b"\xff\xfe",
    b"[" * 5000,
    b'{"a":' * 5000,
    b"{" * 10,
    b"NaN",
    b'{"journal":2}',
    b'{"frames":2}',
    b'{"recipe":"',
    b'{"recipe":"' + b"0" * 32 + b'","is":' + b"[" * 5000 + b"}",
    b'{"recipe":"' + b"0" * 32 + b'","is":[]}',
    b'{"recipe":"' + b"0" * 32 + b'","is":{"function":1,"params":[],"step":2,"version":3}}',
    b'{"file":"abcde"}',
    b'{"file":{"0":1}}',
    b'{"drop":"abc"}',
    b'{"drop":[1,[]]}',
    b'{"drop":null}',
    b"{},{}",
    b'{"file":[7,"a",1,1,"x"]},{"drop":[]}',
    b"9" * 5000,
    b"\0" * 100,
    b'{"file":[' + b"9" * 5000 + b',"a.txt",1,1,"x"]}',
    b'{"journal":null}',
    b'{"journal":[]}',
    b'{"frames":null}',
    b'{"x":"' + b"y" * 500_000 + b'"}',
)


def text(lines: tuple[dict[str, Any], ...] | list[Any]) -> bytes:
    """Lines as a journal holds them."""
    return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)


def directed(lines: tuple[dict[str, Any], ...]) -> Iterator[Input]:
    """Every field of every line replaced by everything odd; every line lost, doubled, cut off; odd lines between."""
    whole = text(lines)
    yield Input("intact", whole, "accepted")
    for end in range(0, len(whole), 3):
        yield Input(f"cut off at {end}", whole[:end])
    for number, line in enumerate(lines):
        rest = [*lines[:number], *lines[number + 1 :]]
        yield Input(f"line {number} lost", text(rest))
        yield Input(f"line {number} twice", text([*lines, line]))
        for odd in LINES:
            yield Input(f"{odd[:20]!r} before line {number}", text(lines[:number]) + odd + b"\n" + text(lines[number:]))
        for field in line:
            for value in ODD:
                other = [*lines[:number], line | {field: value}, *lines[number + 1 :]]
                yield Input(f"line {number}: {field} = {str(value)[:20]!r}", text(other))
            without = {key: value for key, value in line.items() if key != field}
            yield Input(f"line {number} without {field}", text([*lines[:number], without, *lines[number + 1 :]]))
            if isinstance(line[field], list):
                for place in range(len(line[field])):
                    for value in ODD:
                        items = [*line[field][:place], value, *line[field][place + 1 :]]
                        other = [*lines[:number], line | {field: items}, *lines[number + 1 :]]
                        yield Input(f"line {number}: {field}[{place}] = {str(value)[:20]!r}", text(other))


PIECES = (
    *(
        b"\n",
        b"\r\n",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b'"',
        b":",
        b"null",
        b"true",
        b"-1",
        b"1e999",
        b"NaN",
        b"9" * 400,
        b"\\u0000",
    ),
    *(
        b'{"file":[3,"b.txt",1,1,"x"]}\n',
        b'{"drop":["a.txt"]}\n',
        b"../",
        b"/",
        b"\xff",
        b"\\ud800",
        b'"outputs":[1]',
        b'"inputs":[2]',
        b"[]",
    ),
)


def chance(rng: Random, lines: tuple[dict[str, Any], ...]) -> Input:
    """A journal, spoiled: its bytes, or the order of its lines."""
    if rng.random() < 0.3:
        mixed = [rng.choice(lines) for _ in range(rng.randrange(1, 12))]
        return Input("lines by chance", text(mixed))
    return Input("a journal by chance", spoiled(rng, text(lines), PIECES))
