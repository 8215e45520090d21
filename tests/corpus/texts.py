"""Settings files that are wrong, and how settings may be spoiled by chance."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from corpus.document import Input

GOOD = b"""output_dir: out
engine: threads
workers: 2
load_data:
  basepath: raw
  bias_max_exposure_s: 0.01
  keyword_synonyms: {temperature: [MYTEMP]}
camera:
  address: 127.0.0.1:11111
  gain: 100
  cooling: {enable_cooling: true, target_temperature: -10.0}
dark_capture:
  num_darks: 5
  exposure_factors: [0.5, 1.0]
generate_synthetic_darks:
  temperatures_c: [-10.0, 0.0]
  exposures_s: [60.0]
"""

LADDER = list(zip(["", *"abcdefghi"], "abcdefghij", strict=True))
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def directed() -> Iterator[Input]:
    """Each with what it must come to."""
    for name, text in (
        ("nothing", ""),
        ("a comment", "# nothing\n"),
        ("null", "null\n"),
        ("an empty section", "load_data:\n"),
        ("a document", "---\nworkers: 1\n"),
    ):
        yield Input(name, text.encode(), "accepted")
    for name, text in (
        ("a list", "[1, 2]"),
        ("a text", "hello"),
        ("a number", "17"),
        ("a date", "2025-01-01"),
        ("two documents", "a: 1\n---\nb: 2"),
        ("a key twice", "workers: 1\nworkers: 2"),
        ("a tab", "load_data:\n\tbasepath: x"),
        ("no date", "output_dir: 2025-99-99"),
        ("a time that is none", "select: {gain: 2025-13-45T99:99:99}"),
        ("an int of Python", "workers: !!python/int 5"),
        ("a call", "output_dir: !!python/object/apply:os.system ['touch /tmp/darkpipe_was_here']"),
        ("a name", "engine: !!python/name:os.system"),
        ("a bad int", "workers: !!int x"),
        ("an empty int", "workers: !!int ''"),
        ("a bad float", "workers: !!float x"),
        ("an empty float", "workers: !!float ''"),
        ("a bad bool", "quiet: !!bool maybe"),
        ("bad base64", "output_dir: !!binary '*'"),
        ("a set", "select: !!set {a, b}"),
        ("an omap", "select: !!omap [a: 1]"),
        ("bad pairs", "select: !!pairs [1]"),
        ("a bad timestamp", "workers: !!timestamp x"),
        ("a bad merge", "<<: 5"),
        ("a list as a key", "[1, 2]: 3"),
        ("a mapping as a key", "{a: 1}: 3"),
        ("null as a key", "~: 3"),
        ("a number as a key", "1: 2"),
        ("true as a key", "true: 2"),
        ("a mapping in itself", "load_data: &a {basepath: *a}"),
        ("a list in itself", "workers: &a [*a]"),
        ("all in itself", "&a {load_data: *a}"),
        ("laughs", LAUGHS),
        (
            "laughs for a value",
            "workers: [" + ", ".join(f"&{b} [{', '.join(['*' + a] * 6) if a else '1, 1'}]" for a, b in LADDER) + "]",
        ),
        ("5,000 deep lists", "workers: " + "[" * 5000),
        ("5,000 deep lists, closed", "workers: " + "[" * 5000 + "]" * 5000),
        ("5,000 deep mappings", "".join(" " * n + "a:\n" for n in range(2000))),
        ("a huge int", "workers: " + "9" * 5000),
        ("a huge exponent", "workers: 1e999999999"),
        ("base 60", "workers: " + "1:" * 3000 + "1"),
        ("no number", "workers: .nan"),
        ("infinite", "workers: .inf"),
        ("nobody's home", "output_dir: ~nobody_of_this_name/x"),
        ("NUL in a path", 'output_dir: "a\\0b"'),
        ("NUL in a folder", 'load_data: {basepath: "a\\0b"}'),
        ("half a surrogate", 'output_dir: "\\ud800"'),
        ("a section as text", "load_data: hello"),
        ("a section as list", "camera: [1]"),
        ("an unknown key", "worker: 2"),
        ("an unknown section", "lod_data: {}"),
        ("an unknown key inside", "load_data: {base: x}"),
        ("a bad address", "camera: {address: 'a b'}"),
        ("escapes", 'engine: "\\e[31mred"'),
        ("100,000 keys", "".join(f"k{n}: 1\n" for n in range(100_000))),
        ("a million blanks", "workers:" + " " * 1_000_000 + "x"),
        ("an alias to nothing", "workers: *nothing"),
        ("a tag", "workers: !x 5"),
        ("anchors", "".join(f"k{n}: &k{n} [*k{n - 1}]\n" if n else "k0: &k0 []\n" for n in range(3000))),
        ("nan exposures", "load_data: {bias_max_exposure_s: .nan}"),
        ("NUL", "workers: 1\0"),
        ("a control character", "workers: \x1b"),
        ("a BOM inside", "work\ufeffers: 1"),
        ("an unknown escape", '"\\q": 1'),
        ("a merge of itself", "load_data: &a\n  <<: *a"),
        ("a directive", "%YAML 9.9\n---\nworkers: 1"),
        ("1,000 documents", "--- 1\n" * 1000),
    ):
        yield Input(name, text.encode("utf-8", "surrogatepass"), "refused")
    for name, content in (
        ("UTF-16", "workers: 1".encode("utf-16")),
        ("latin-1", b"output_dir: K\xe4lte"),
        ("bytes", bytes(range(256))),
        ("half of UTF-8", b"output_dir: \xc3"),
        ("zeros", bytes(4096)),
        ("20 MiB", b"# " + b"x" * (20 << 20)),
    ):
        yield Input(name, content, "refused")


PIECES = (
    *(
        b": ",
        b"\n",
        b"  ",
        b"- ",
        b"[",
        b"]",
        b"{",
        b"}",
        b"&a ",
        b"*a",
        b"!!int ",
        b"!!python/name:os.system ",
        b"~",
        b"null",
        b".nan",
    ),
    *(
        b".inf",
        b"-1",
        b"1e400",
        b"9" * 400,
        b"''",
        b'"\\0"',
        b'"\\ud800"',
        b"<<: ",
        b"? ",
        b"| ",
        b"> ",
        b"#",
        b"%YAML 1.1\n---\n",
        b"true",
    ),
    *(
        b"2025-02-30",
        b"0x",
        b"0b",
        b"1:2:3",
        b"\t",
        b"\xff",
        b"\xc3\xa4",
        b"\xe2\x80\xae",
        b"..",
        b"@",
        b"`",
        b"output_dir: ",
        b"workers: ",
    ),
    *(
        b"load_data:\n  ",
        b"camera:\n  ",
        b"cooling: ",
        b"temperatures_c: ",
        b"address: ",
        b"basepath: ",
        b"keyword_synonyms: ",
    ),
)


def chance(rng: Random) -> Input:
    """Good settings with pieces put in, taken out, or turned."""
    return Input("settings by chance", spoiled(rng, GOOD, PIECES), "any")


def spoiled(rng: Random, content: bytes, pieces: tuple[bytes, ...]) -> bytes:
    """Content with pieces put in, taken out, or turned; seldom whole."""
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        place = rng.randrange(len(out) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            out[place:place] = rng.choice(pieces)
        elif kind == 1:
            piece = rng.choice(pieces)
            out[place : place + rng.randrange(12)] = piece
        elif kind == 2:
            del out[place : place + rng.choice((1, 4, 30))]
        elif kind == 3 and out:
            out[place % len(out)] ^= 1 << rng.randrange(8)
        elif kind == 4:
            start = rng.randrange(len(out) + 1)
            out[place:place] = out[start : start + rng.choice((1, 10, 60))]
        else:
            out[place:place] = rng.randbytes(rng.randrange(1, 5))
    return bytes(out)
