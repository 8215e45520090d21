"""What a camera's server may answer: images, values, and whole answers of HTTP."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from random import Random

import numpy as np

from corpus.document import Input, Truth
from corpus.texts import spoiled

ROWS, COLS = 7, 12
COLUMNS = (100 * np.arange(COLS)[:, None] + np.arange(ROWS)).astype(np.uint16)
TRUTH = Truth(COLUMNS.T.copy())
NUMBERS = {"i2": 1, "i4": 2, "f8": 3, "f4": 4, "u8": 5, "u1": 6, "i8": 7, "u2": 8, "u4": 9}
ODD = (0, 1, -1, 2, 3, 7, 12, 43, 44, 45, 1 << 20, 2**31 - 1, -(2**31), 0x400, 0x407)


def image_bytes(columns: np.ndarray, **header: int) -> bytes:
    """(cols, rows) as ImageBytes; `header` replaces fields of it."""
    sent_as = NUMBERS[columns.dtype.str[1:]]
    fields = {"version": 1, "error": 0, "client": 0, "server": 1, "start": 44, "element": 2, "sent_as": sent_as}
    fields |= {"rank": 2, "d1": columns.shape[0], "d2": columns.shape[1], "d3": 0} | header
    return struct.pack("<11i", *fields.values()) + columns.tobytes()


def images() -> Iterator[Input]:
    for kind in ("<i2", "<i4", "<f8", "<f4", "<u8", "<i8", "<u2", "<u4"):
        yield Input(f"intact {kind}", image_bytes(COLUMNS.astype(kind)), "accepted", TRUTH)
    for name in ("version", "error", "client", "server", "start", "element", "sent_as", "rank", "d1", "d2", "d3"):
        for value in ODD:
            yield Input(f"{name} = {value}", image_bytes(COLUMNS, **{name: value}), "any", TRUTH)
    whole = image_bytes(COLUMNS)
    for end in range(len(whole)):
        yield Input(f"cut off at {end}", whole[:end], "refused")
    for value in (-1.0, 65536.0, 0.5, np.nan, np.inf, -np.inf, 1e300):
        spoilt = COLUMNS.astype("<f8")
        spoilt[3, 4] = value
        yield Input(f"a count of {value}", image_bytes(spoilt), "refused")
    for value in (2**63, 2**64 - 1, 65536):
        wide = COLUMNS.astype("<u8")
        wide[0, 0] = value
        yield Input(f"a count of {value}", image_bytes(wide), "refused")
    for message in (b"", b"\xff" * 100, b"x" * 100_000, b"\x1b[31m", "é\u202e".encode(), bytes(1000)):
        for number in (1, 0x400, 0x80040400 - (1 << 32), -(2**31)):
            head = struct.pack("<11i", 1, number, 0, 0, 44, 0, 0, 0, 0, 0, 0)
            yield Input(f"error {number}", head + message, "refused")


def chance_image(rng: Random) -> Input:
    """ImageBytes by chance."""
    kind = rng.choice(("<i2", "<i4", "<f8", "<f4", "<u8", "<i8", "<u2", "<u4"))
    content = bytearray(image_bytes(COLUMNS.astype(kind)))
    for _ in range(rng.choice((1, 1, 2, 4))):
        if rng.random() < 0.6:
            place = rng.randrange(11) * 4
            content[place : place + 4] = struct.pack("<i", rng.choice((*ODD, rng.randrange(-(2**31), 2**31))))
        else:
            content[rng.randrange(len(content))] = rng.randrange(256)
    if rng.random() < 0.2:
        del content[rng.randrange(len(content)) :]
    return Input("ImageBytes by chance", bytes(content))


def as_json(value: object, **more: object) -> bytes:
    """An answer with a value."""
    return json.dumps({"Type": 2, "Rank": 2, "ErrorNumber": 0, "ErrorMessage": "", "Value": value} | more).encode()


def json_images() -> Iterator[Input]:
    good = COLUMNS.tolist()
    yield Input("intact", as_json(good), "accepted", TRUTH)
    yield Input("intact, floats", as_json(COLUMNS.astype(float).tolist()), "accepted", TRUTH)
    yield Input("intact, lower case", as_json(good).replace(b'"Value"', b'"value"'), "accepted", TRUTH)
    yield Input("intact, deep", as_json(COLUMNS[..., None].tolist()), "accepted", TRUTH)
    for name, value in (
        ("null", None),
        ("a text", "x"),
        ("a number", 5),
        ("a mapping", {}),
        ("nothing", []),
        ("empty columns", [[]] * COLS),
        ("ragged", [*good[:-1], good[0][:-1]]),
        ("a column too many", [*good, good[0]]),
        ("swapped", COLUMNS.T.tolist()),
        ("texts", [["1"] * ROWS] * COLS),
        ("null in it", [[None] * ROWS] * COLS),
        ("true in it", [[True] * ROWS] * COLS),
        ("mappings in it", [[{}] * ROWS] * COLS),
        ("negative", (COLUMNS.astype(int) - 1).tolist()),
        ("too high", (COLUMNS.astype(int) * 99).tolist()),
        ("fractions", (COLUMNS + 0.5).tolist()),
        ("NaN", [[float("nan")] * ROWS] * COLS),
        ("infinite", [[float("inf")] * ROWS] * COLS),
        ("huge numbers", [[10**300] * ROWS] * COLS),
        ("three planes", [[[1, 2, 3]] * ROWS] * COLS),
        ("a long text in it", [["x" * 50_000, *[""] * 6]] * COLS),
        ("one long column", [[1] * 60_000, *good[1:]]),
        ("a long text and many", [["x" * 300_000] + ["y"] * 50_000, *good[1:]]),
        ("deep in one place", [[[[[[[1]]]]]] * ROWS] * COLS),
        ("mixed", [[1, "2", 3.0, None, True, [], {}]] * COLS),
    ):
        yield Input(f"an image: {name}", as_json(value), "refused")
    for number in (
        1,
        -1,
        0x400,
        2**31,
        2**64,
        10**400,
        "1024",
        "--5",
        "5" * 5000,
        "٣",
        "1e3",
        1.5,
        None,
        [],
        {},
        True,
        "x",
        float("nan"),
    ):
        yield Input(f"error {str(number)[:9]}", as_json(None, ErrorNumber=number, ErrorMessage="no"), "refused")
    for message in (None, [], {}, 5, "x" * 100_000, "\x1b[31m\n", "\ud800", [[[]]], 10**300, True):
        yield Input(f"message {str(message)[:9]!r}", as_json(None, ErrorNumber=1, ErrorMessage=message), "refused")
    for name, content in (
        ("no JSON", b"<html>"),
        ("nothing", b""),
        ("deep lists", b"[" * 100_000),
        ("deep mappings", b'{"a":' * 100_000),
        ("a text", b'"x"'),
        ("UTF-16", as_json(good).decode().encode("utf-16")),
        ("a BOM", b"\xef\xbb\xbf" + as_json(good)),
        ("zeros", bytes(1000)),
        ("many empty lists", b'{"Value": [' + b"[]," * 300_000 + b"[]]}"),
        ("a huge int", b'{"Value": ' + b"9" * 100_000 + b"}"),
        ("many keys", b'{"a":1' + b"".join(b',"%d":1' % n for n in range(50_000)) + b"}"),
        ("a list", b"[1]"),
        ("half", as_json(good)[:-20]),
        ("deep message", b'{"ErrorNumber": 1, "ErrorMessage": ' + b"[" * 900 + b"]" * 900 + b"}"),
        ("bad escapes", b'{"Value": "\\ud800\\u12"}'),
        ("a huge error", b'{"ErrorNumber": 1E400, "ErrorMessage": 1E400}'),
        ("a value twice", b'{"Value": [], "value": [[1]]}'),
    ):
        yield Input(f"an answer: {name}", content, "any" if name in ("UTF-16", "a BOM") else "refused", TRUTH)


PIECES = (
    *(
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b":",
        b'"',
        b"null",
        b"true",
        b"NaN",
        b"Infinity",
        b"1e999",
        b"-",
        b"9" * 400,
        b"\\u0000",
        b"\\ud800",
    ),
    *(
        b'"ErrorNumber":',
        b'"Value":',
        b'"ErrorMessage":',
        b'"--5"',
        b"1.5",
        b"\xff",
        b"\x00",
        b"65536",
        b"-1",
        b'"x"',
        b"[]",
        b"{}",
    ),
)


def chance_json(rng: Random) -> Input:
    """An answer in JSON, spoiled."""
    image = COLUMNS.tolist()
    value = rng.choice((image, image, image, image, -10.5, 3, True, "Corpus CCD", None, ["a", "b"], 65535))
    number = rng.choice((0, 0, 0, 0, 0, 0, 0x400, 0x500))
    return Input("JSON by chance", spoiled(rng, as_json(value, ErrorNumber=number, ErrorMessage="why"), PIECES))


# --- whole answers
def http_answer(body: bytes, kind: str = "application/json", status: str = "200 OK", **headers: str) -> bytes:
    """An answer as it stands on the line."""
    lines = {"Content-Type": kind, "Content-Length": str(len(body))} | {
        k.replace("_", "-"): v for k, v in headers.items()
    }
    head = f"HTTP/1.1 {status}\r\n" + "".join(f"{key}: {text}\r\n" for key, text in lines.items() if text)
    return head.encode("latin-1") + b"\r\n" + body


def https() -> Iterator[Input]:
    body = as_json(-10.5)
    yield Input("intact", http_answer(body), "accepted")
    yield Input("without a length", http_answer(body, Content_Length="", Connection="close"), "accepted")
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:5], body[5:])) + b"0\r\n\r\n"
    yield Input("in chunks", http_answer(chunked, Content_Length="", Transfer_Encoding="chunked"), "accepted")
    for size in (
        b"-1",
        b"-5",
        b"FFFFFFFFFFFFFFFF",
        b"F" * 5000,
        b"x",
        b"",
        b"0x5",
        b"5;" + b"e" * 70_000,
        b"7FFFFFFF",
        b"1_0",
    ):
        odd = http_answer(size + b"\r\n" + body + b"\r\n0\r\n\r\n", Content_Length="", Transfer_Encoding="chunked")
        yield Input(f"a chunk of {size[:9]!r}", odd, "refused" if size[:2] not in (b"0x", b"1_") else "any")
    for length in ("-1", "999999999999", "9" * 5000, "x", "5", "0", "1, 2", " 7", "+10", "1_0"):
        yield Input(f"a length of {length[:9]}", http_answer(body, Content_Length=length), "any")
    for status in (
        "301 Moved",
        "302 Found",
        "307 Redirect",
        "400 Bad",
        "401 No",
        "404 None",
        "500 Fault",
        "503 Busy",
        "999 What",
        "99",
        "",
        "x",
        "-1 a",
        "100 Continue",
        "101 Switch",
        "204 None",
        "206 Part",
        "304 Same",
        "2000 OK",
    ):
        where = "http://127.0.0.1:1/evil" if status.startswith("30") else ""
        yield Input(f"status {status}", http_answer(body, status=status, Location=where), "any")
    for name, content in (
        ("nothing", b""),
        ("a byte", b"H"),
        ("no HTTP", b"hello\r\n\r\n"),
        ("HTTP/0.9", body),
        ("HTTP/9.9", b"HTTP/9.9 200 OK\r\n\r\n" + body),
        ("a line of 100 kB", b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n"),
        ("200 headers", http_answer(body).replace(b"\r\n\r\n", b"\r\n" + b"A: b\r\n" * 200 + b"\r\n")),
        ("a header of 100 kB", http_answer(body, X=("y" * 100_000))),
        ("a header without colon", http_answer(body).replace(b"\r\n\r\n", b"\r\nrubbish\r\n\r\n")),
        ("bytes in a header", http_answer(body, kind="\xff\x00\x1b")),
        ("a folded header", http_answer(body).replace(b"\r\n\r\n", b"\r\n folded\r\n\r\n")),
        ("two lengths", http_answer(body).replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n")),
        ("gzip", http_answer(body, Content_Encoding="gzip")),
        ("SSH", b"SSH-2.0-OpenSSH_9\r\n"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01"),
        ("zeros", bytes(5000)),
        ("line feeds", b"\n" * 10_000),
        ("many continues", b"HTTP/1.1 100 Continue\r\n\r\n" * 5000),
        ("a long number", http_answer(b'{"ErrorNumber":0,"Value":' + b"1" * 5000 + b"}")),
    ):
        yield Input(f"an answer: {name}", content, "any")


HTTP_PIECES = (
    *(
        b"\r\n",
        b"\r\n\r\n",
        b": ",
        b"HTTP/1.1 ",
        b"200",
        b"Content-Length: ",
        b"Transfer-Encoding: chunked\r\n",
        b"-1\r\n",
        b"0\r\n\r\n",
    ),
    *(b"ffffffff\r\n", b"\x00", b"\xff", b"9" * 300, b"Connection: close\r\n", b"Location: http://127.0.0.1:1/\r\n"),
)


def chance_http(rng: Random) -> Input:
    """A whole answer, spoiled."""
    body = as_json(rng.choice((-10.5, True, "x", ["a"], None)))
    answer = http_answer(body)
    if rng.random() < 0.3:
        chunked = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:9], body[9:])) + b"0\r\n\r\n"
        answer = http_answer(chunked, Content_Length="", Transfer_Encoding="chunked")
    return Input("HTTP by chance", spoiled(rng, answer, HTTP_PIECES))


# --- the search on the network
def datagrams() -> Iterator[Input]:
    yield Input("intact", b'{"AlpacaPort": 11111}', "accepted")
    yield Input("lower case", b'{"alpacaport": 11111}', "accepted")
    for value in (
        "0",
        "-1",
        "65536",
        "1e999",
        "NaN",
        "null",
        "true",
        '"x"',
        "[]",
        "{}",
        "1.5",
        '"11111"',
        "9" * 900,
        '"' + "9" * 900 + '"',
    ):
        yield Input(f"port {value[:9]}", b'{"AlpacaPort": ' + value.encode() + b"}", "any")
    for content in (
        b"",
        b"x",
        b"[" * 1000,
        b"[]",
        b"5",
        b"null",
        b"\xff" * 9,
        b'{"a":' * 200,
        b"alpacadiscovery1",
        bytes(1024),
    ):
        yield Input(f"{content[:9]!r}", content, "refused")


def chance_datagram(rng: Random) -> Input:
    """An answer to the search, spoiled."""
    return Input("datagram by chance", spoiled(rng, b'{"AlpacaPort": 11111}', PIECES)[:1024])
