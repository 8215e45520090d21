"""Headers that say odd things about good pixels, with what must become of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from corpus.document import CARD, Input, Truth, Unit, card, changed, file_bytes, quoted
from corpus.frames import EXPOSURE_S, TEMPERATURE_C, TRUTH, dark, one, truth, with_card

NO_NUMBERS = (
    *(
        "NaN",
        "+NaN",
        "Inf",
        "-Inf",
        "INF",
        "1E999",
        "-1E999",
        "T",
        "F",
        "(1.0, 2.0)",
        "1,2,3",
        "--5",
        "0x10",
        "1E",
        "E5",
    ),
    *(quoted("nan"), quoted("-inf"), quoted("Infinity"), quoted("1e999"), quoted("long"), quoted("T"), quoted("--")),
    *(quoted("12 apples"), quoted("1.2.3"), quoted("12:30"), quoted("\u00bd".encode("latin-1").decode("latin-1"))),
)


def temperatures() -> Iterator[Input]:
    def cold(text: str, comment: str = "") -> Unit:
        return with_card("CCD-TEMP", text, comment).drop("SET-TEMP")

    for text in (*NO_NUMBERS, "-999", "999", "-273.15", "-300", "1E6", "-1E300", "130", "9" * 60, "", quoted("")):
        yield one(f"CCD-TEMP = {text[:14]}", cold(text), "refused", reason="CCD-TEMP|temperature")
    for text, comment, celsius in (
        ("263.15", "", -10.0),
        ("263.15", "[K]", -10.0),
        (quoted("-10.5 C"), "", -10.5),
        (quoted("-10,5"), "", -10.5),
        ("14.0", "[F]", -10.0),
        ("-0.0", "", 0.0),
        ("-10.25D0", "", -10.25),
        (".5", "", 0.5),
        ("+3.", "", 3.0),
        ("-1.025E1", "", -10.25),
        ("1E-300", "", 0.0),
    ):
        unit = cold(text, comment)
        yield one(f"CCD-TEMP = {text} {comment}", unit, "accepted", truth(temperature_c=celsius))
    doubled = changed(dark(), lambda u: u.add(card("CCD-TEMP", "-20.0")))
    yield one("CCD-TEMP twice, different", doubled, "any")
    yield one("CCD-TEMP twice, the same", dark().add(card("CCD-TEMP", "-10.25")), "accepted", TRUTH)
    for text in ("NaN", "1E999", "-999", quoted("warm")):
        unit = with_card("CCD-TEMP", text)
        yield one(f"CCD-TEMP = {text} with a set point", unit, "any", truth(temperature_c=-10.0))
    neither = dark().drop("CCD-TEMP").drop("SET-TEMP")
    yield one("no temperature", neither, "refused", reason="temperature")


def exposures() -> Iterator[Input]:
    for text in (*NO_NUMBERS, "-1", "-0.001", "1E7", "1E308", "9" * 60):
        yield one(f"EXPTIME = {text[:14]}", with_card("EXPTIME", text), "refused", reason="EXPTIME|exposure")
    for text, comment, seconds in (
        ("120", "", 120.0),
        ("1.2D2", "", 120.0),
        (quoted("120 s"), "", 120.0),
        (quoted("120,5"), "", 120.5),
        ("120000", "[ms]", 120.0),
        ("2", "[min]", 120.0),
        ("1.2E8", "microseconds", 120.0),
        (quoted("1/8"), "", 0.125),
        ("120.0", "seconds (not ms)", 120.0),
        ("1E5", "", 1e5),
        ("0.5", "exposure in s", 0.5),
    ):
        unit = with_card("EXPTIME", text, comment)
        yield one(f"EXPTIME = {text} {comment}", unit, "accepted", truth(exposure_s=seconds))
    for text in ("0", "0.0", "1E-300", "-0.0", "1E-32"):
        yield one(f"EXPTIME = {text}", with_card("EXPTIME", text), "accepted", truth(exposure_s=float(text)))
    yield one("EXPTIME twice, different", dark().add(card("EXPTIME", "60.0")), "refused", reason="EXPTIME")
    yield one("EXPTIME twice, the same", dark().add(card("EXPTIME", "120.0")), "accepted", TRUTH)
    other = dark().add(card("EXPOSURE", "60.0"))
    yield one("EXPOSURE contradicts EXPTIME", other, "any", TRUTH)
    yield one("no exposure", dark().drop("EXPTIME"), "refused", reason="exposure")
    hierarch = dark().drop("EXPTIME").add(b"HIERARCH EXPTIME = 120.0".ljust(CARD))
    yield one("EXPTIME by HIERARCH", hierarch, "accepted", TRUTH)
    lower = dark().drop("EXPTIME").add(b"exptime =                120.0".ljust(CARD))
    yield one("exptime in lower case", lower, "any", TRUTH)


def kinds() -> Iterator[Input]:
    for text in (
        "Light Frame",
        "Flat",
        "Master Dark",
        "dark flat",
        "",
        "3",
        "\u0000dark",
        "x" * 66,
        "darkness",
        "light dark",
    ):
        yield one(f"IMAGETYP = {text[:12]!r}", with_card("IMAGETYP", quoted(text)), "any", TRUTH)
    for text in ("Light Frame", "Flat Field", "Master Dark"):
        yield one(f"IMAGETYP = {text}", with_card("IMAGETYP", quoted(text)), "refused", reason="IMAGETYP")
    for text in ("T", "3", "NaN", "1E999"):
        yield one(f"IMAGETYP = {text}", with_card("IMAGETYP", text), "any", TRUTH)
    contrary = dark().add(card("IMAGETYP", quoted("Light Frame")))
    yield one("IMAGETYP twice, different", contrary, "refused", reason="IMAGETYP")
    long_bias = with_card("IMAGETYP", quoted("Bias Frame"))
    yield one("a bias of two minutes", long_bias, "refused", reason="bias")
    for keyword, text in (
        ("NCOMBINE", "20"),
        ("CALSTAT", quoted("BD")),
        ("STACKCNT", "5"),
        ("DARKCOR", quoted("done")),
    ):
        yield one(f"{keyword} = {text}", dark().add(card(keyword, text)), "refused", reason=keyword)
    for text in ("NaN", "1E999", quoted("many"), "-5", "0", "1"):
        yield one(f"NCOMBINE = {text}", dark().add(card("NCOMBINE", text)), "any", TRUTH)


def dates() -> Iterator[Input]:
    """No date makes a frame a worse dark; it must only not be believed."""
    for text in (
        *(
            "0000-00-00",
            "9999-12-31T23:59:60.999",
            "1800-01-01T00:00:00",
            "31/12/99",
            "01/01/70",
            "2025-02-30",
            "2025-13-01",
        ),
        *(
            "2025-01-01T25:61:61",
            "2025-01-01T24:00:00",
            "2025-01-01T00:00:60",
            "12345-01-01",
            "-2025-01-01",
            "2025",
            "today",
        ),
        *("2025-01-01T00:00:00.123456789012345678901234", "2025-01-01T00:00:00+99:99", "2025-01-01T00:00:00-23:59"),
        *(
            "2200-12-31T23:59:59.9999Z",
            "1970-01-01T00:00:00+14:00",
            "T12:00:00",
            "2025/1/2",
            "99/99/99",
            "1/1/1",
            "0/0/00",
        ),
    ):
        yield one(f"DATE-OBS = {text}", with_card("DATE-OBS", quoted(text)), "accepted", TRUTH)
    for keyword in ("MJD-OBS", "JD", "MJD", "DATE-END", "TIME-OBS", "UT"):
        for text in (
            "NaN",
            "1E300",
            "-1E300",
            "0",
            "2460000.5",
            "60000",
            "T",
            quoted("noon"),
            quoted("2024-02-29T00:00:00"),
        ):
            unit = dark().drop("DATE-OBS").add(card(keyword, text))
            yield one(f"{keyword} = {text} alone", unit, "accepted", TRUTH)
    yield one("DATE-OBS is a number", with_card("DATE-OBS", "20250101"), "accepted", TRUTH)


def characters() -> Iterator[Input]:
    """What no header may hold: other bytes than printable ASCII, quotes that do not end, cards without a form."""
    for name, content in (
        ("latin-1", b"'K\xe4lte'"),
        ("UTF-8", "'Kälte'".encode()),
        ("NUL", b"'a\0b'"),
        ("ESC", b"'\x1b[31mred'"),
        ("line feed", b"'a\nb'"),
        ("tab", b"'a\tb'"),
        ("bytes 128 to 255", b"'" + bytes(range(128, 190)) + b"'"),
        ("no end quote", b"'camera"),
        ("quotes alone", b"''''''"),
        ("a quote", b"'"),
        ("overlong UTF-8", b"'\xc0\xaf'"),
        ("half a surrogate", b"'\xed\xa0\x80'"),
        ("right to left", "'\u202edark'".encode()),
        ("bell", b"'\a\a'"),
        ("a page", b"'<script>alert(1)</script>'"),
        ("a path", b"'../../../etc/passwd'"),
        ("a format", b"'{0.__class__} %s %n'"),
        ("a comma, a quote", b"'a,\"b\"'"),
    ):
        for keyword in ("INSTRUME", "READOUTM", "OBJECT", "FILTER", "SERIAL"):
            yield one(f"{keyword} with {name}", with_card(keyword, content), "accepted", TRUTH)
    for name, image in (
        ("bytes", bytes(range(176, 256))),
        ("zeros", bytes(CARD)),
        ("a value without keyword", b"        = 5"),
        ("equals signs", b"=" * CARD),
        ("a keyword alone", b"EXPTIME"),
        ("no blank behind =", b"EXPTIMEX=5"),
        ("a slash", b"KEY     = /"),
        ("slashes", b"KEY     = ////"),
        ("a long keyword", b"AVERYLONGKEYWORD = 5"),
        ("HIERARCH alone", b"HIERARCH"),
        ("HIERARCH without =", b"HIERARCH ESO DET"),
        ("HIERARCH =", b"HIERARCH = 5"),
        ("HIERARCH with bytes", b"HIERARCH \xff\xfe = '\xff'"),
        ("CONTINUE first", b"CONTINUE  'lost'"),
        ("CONTINUE without quotes", b"CONTINUE  17"),
        ("END in a value", b"KEY     = 'END     '"),
        ("a digit", b"7"),
        ("many digits", b"KEY     = " + b"9" * 70),
        ("many zeros", b"KEY     = 1E" + b"0" * 60),
        ("NUL", b"KEY\0    = 5"),
    ):
        yield one(f"a card of {name}", dark().add(image.ljust(CARD)), "accepted", TRUTH)


def chains() -> Iterator[Input]:
    """Long texts over many cards, and sub-keywords without end."""
    long = [card("OBSERVER", quoted("a" * 60 + "&"))] + [b"CONTINUE  '" + b"b" * 60 + b"&'".ljust(9)] * 5000
    yield one("5,000 CONTINUE cards", dark().add(*(image.ljust(CARD)[:CARD] for image in long)), "accepted", TRUTH)
    camera = [card("INSTRUME", quoted("Corpus &")), b"CONTINUE  'CCD'".ljust(CARD)]
    yield one("a name over two cards", dark().drop("INSTRUME").add(*camera), "accepted", TRUTH)
    number = [card("EXPTIME", quoted("12&")), b"CONTINUE  '0.0'".ljust(CARD)]
    yield one("an exposure over two cards", dark().drop("EXPTIME").add(*number), "any", TRUTH)
    endless = [card("INSTRUME", quoted("x&"))] + [b"CONTINUE  '&'".ljust(CARD)] * 1000
    yield one("a name that goes on and on", dark().drop("INSTRUME").add(*endless), "accepted", TRUTH)
    hierarch = [f"HIERARCH ESO DET WIN{n} PAR{n} = {n} / nothing".encode().ljust(CARD)[:CARD] for n in range(5000)]
    yield one("5,000 HIERARCH cards", dark().add(*hierarch), "accepted", TRUTH)
    for keyword in ("INSTRUME", "GAIN", "OBJECT", "HISTORY"):
        same = [card(keyword, quoted(f"v{n}")) for n in range(2000)]
        yield one(f"{keyword} 2,000 times", dark().add(*same), "any", TRUTH)
    history = [b"HISTORY  bias subtraction (and more)".ljust(CARD)]
    yield one("a history of calibration", dark().add(*history), "refused", reason="HISTORY")


def settings() -> Iterator[Input]:
    """What tells configurations apart, told oddly."""
    for keyword in (
        "GAIN",
        "OFFSET",
        "EGAIN",
        "EMGAIN",
        "PEDESTAL",
        "DATAMAX",
        "XORGSUBF",
        "DETSEC",
        "SUBRECT",
        "BAYERPAT",
    ):
        for text in (
            "NaN",
            "1E999",
            "-1E300",
            "9" * 60,
            "T",
            quoted(""),
            quoted("1E999"),
            quoted("[1:9,1:9]"),
            "0.0",
            "-0.0",
        ):
            yield one(f"{keyword} = {text[:14]}", with_card(keyword, text), "accepted", TRUTH)
    for keyword in ("XBINNING", "YBINNING", "BINNING", "CCDSUM"):
        for text in ("0", "-1", "65", "1E300", "NaN", "1.5", "T", quoted("1x"), quoted("0x0"), quoted("2x2x2"), "2"):
            yield one(f"{keyword} = {text}", with_card(keyword, text), "any", TRUTH)
    two = dark().add(card("XBINNING", "2"))
    yield one("XBINNING twice, different", two, "any", TRUTH)


def real_headers(cards: list[list[bytes]]) -> Iterator[Input]:
    """Headers of real frames over our pixels; what they come to is known from elsewhere."""
    for number, found in enumerate(cards):
        yield Input(f"real header {number}", file_bytes([over(found)]), "any", Truth(TRUTH.pixels))


STRUCTURE = (
    "SIMPLE",
    "XTENSION",
    "BITPIX",
    "NAXIS",
    "EXTEND",
    "PCOUNT",
    "GCOUNT",
    "BZERO",
    "BSCALE",
    "BLANK",
    "ZIMAGE",
    "TFIELDS",
    "THEAP",
    "ZTENSION",
    "ZBITPIX",
    "ZNAXIS",
    "ZCMPTYPE",
    "CHECKSUM",
    "DATASUM",
    "GROUPS",
)


def over(cards: list[bytes]) -> Unit:
    """Our pixels under the cards of another frame, without those of its structure."""
    unit = dark()
    kept = [image for image in cards if not image[:8].decode("latin-1").strip().startswith(STRUCTURE)]
    unit.cards = [image for image in unit.cards if image[:8].decode().strip().startswith(STRUCTURE)] + kept
    return unit


DIRECTED: tuple[Callable[[], Iterator[Input]], ...] = (
    temperatures,
    exposures,
    kinds,
    dates,
    characters,
    chains,
    settings,
)
assert (EXPOSURE_S, TEMPERATURE_C) == (120.0, -10.25)  # the texts above hold them
