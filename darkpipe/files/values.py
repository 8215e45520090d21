"""Values as header cards hold them, brought to numbers, units and dates. No keyword is known here.

Every function takes odd content and answers None (or raises `Unreadable`, with a reason in words); none of them fails
otherwise.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

ZERO_C_K = 273.15
_SENTINELS = (999.0, 999.9, 9999.0, 99999.0, 32767.0, 32768.0)
_LOWEST_C, _HIGHEST_C = -271.0, 100.0  # no sensor is run beyond these
_KELVIN_FROM, _KELVIN_TO = 150.0, 400.0  # numbers in here can only be kelvin
_LONGEST_S = 1e6  # eleven days: no single exposure is longer

_NUMBER = re.compile(r"([+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eEdD][+-]?\d+)?)")
_FRACTION = re.compile(r"^\s*1\s*/\s*(\d+(?:\.\d+)?)\s*(?:s|sec|seconds?)?\s*$", re.IGNORECASE)
_MILLI = re.compile(r"\b(?:ms|msecs?|milli-?\s?sec(?:ond)?s?)\b", re.IGNORECASE)
_MICRO = re.compile(r"(?:\b(?:us|usecs?|micro-?\s?sec(?:ond)?s?)\b|[µμ]s\b)", re.IGNORECASE)
_MINUTE = re.compile(r"(?:\[min(?:ute)?s?\]|\bin minutes\b|^\s*min(?:ute)?s?\s*$)", re.IGNORECASE)
_SECOND = re.compile(r"\b(?:s|secs?|seconds?)\b", re.IGNORECASE)
_BRACKETED = re.compile(r"[\[(]\s*([^\])]*?)\s*[\])]")
_KELVIN = re.compile(r"\bkelvins?\b|[\[(]\s*k\s*[\])]|\bin k\b|\bdeg(?:rees?)?\.?\s*k\b|^\s*k\s*$", re.IGNORECASE)
_FAHRENHEIT = re.compile(r"\bfahrenheit\b|[\[(]\s*f\s*[\])]|\bdeg(?:rees?)?\.?\s*f\b|^\s*f\s*$", re.IGNORECASE)
_CELSIUS = re.compile(r"^\s*(?:deg(?:rees?)?\.?\s*)?(?:c|celsius|centigrade)\s*$", re.IGNORECASE)
_PER_ADU = re.compile(
    r"e-?(?:lectrons?)?\s*(?:/|per)\s*(?:adu|dn|count|data number|a/d)|electrons?\s*(?:/|per)", re.IGNORECASE
)


_FOREIGN = re.compile(
    r"ambient|outside|outdoor|external|focuser|tube|mirror|dome|weather|environment|telescope|air temp|sky temp|\broom",
    re.IGNORECASE,
)
_SENSORS = re.compile(r"\b(?:ccd|cmos|chip|detector|focal plane)\b", re.IGNORECASE)
_HEAT_SINK = re.compile(r"heat[ -]?sink|hot side|\bambient temp", re.IGNORECASE)


class Card(NamedTuple):
    """One card: keyword in upper case; value as str, bool, int, float or None where undefined; comment."""

    keyword: str
    value: Any
    comment: str = ""


class Unreadable(ValueError):
    """The content cannot be what it should be; the text says why."""


def text_of(value: Any) -> str:
    """The value as one line of printable text, at most 80 characters; '' for anything undefined."""
    if not isinstance(value, str | int | float):
        return ""
    try:
        text = str(value)
    except ValueError:  # an integer beyond what Python writes out
        return "(a huge number)"
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:80]


def shown(value: Any) -> str:
    """The value for a message: short, printable, strings in quotes."""
    text = text_of(value)
    return repr(text[:40]) if isinstance(value, str) else text[:40] or "(no value)"


def number_of(value: Any) -> float | None:
    """The value as a finite number, or None; strings may have a decimal comma, a unit behind is not allowed."""
    number, unit = number_and_unit(value)
    return number if not unit else None


def number_and_unit(value: Any) -> tuple[float | None, str]:
    """A finite number and what stands behind it ('43 C' -> 43.0, 'C'), or (None, '')."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None, ""
    if isinstance(value, str):
        match = _NUMBER.match(value.strip())
        if match is None:
            return None, ""
        unit = value.strip()[match.end() :].strip()
        value = match.group(1).replace(",", ".").replace("d", "e").replace("D", "e")
    else:
        unit = ""
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None, ""
    return (number, unit) if math.isfinite(number) else (None, "")


def integer_of(value: Any) -> int | None:
    """The value as a whole number, or None."""
    number = number_of(value)
    return int(number) if number is not None and number == int(number) else None


def pair_of(value: Any) -> tuple[int, int] | None:
    """Two positive whole numbers in one value: '1 1', '2x2', '2*2', '2,2'; a single one counts for both."""
    single = integer_of(value)
    if single is not None:
        return (single, single) if single > 0 else None
    match = re.fullmatch(r"\s*\(?(\d{1,4})\s*[xX*×, ]\s*(\d{1,4})\)?\s*", value) if isinstance(value, str) else None
    if match is None or min(int(match[1]), int(match[2])) < 1:
        return None
    return int(match[1]), int(match[2])


def section_origin(value: Any) -> tuple[int, int] | None:
    """Zero-based (x, y) where an IRAF section '[x1:x2,y1:y2]' begins, or None."""
    if not isinstance(value, str):
        return None
    match = re.fullmatch(r"\s*\[\s*(\d{1,6})\s*:\s*(\d{1,6})\s*,\s*(\d{1,6})\s*:\s*(\d{1,6})\s*\]\s*", value)
    if match is None:
        return None
    x1, x2, y1, y2 = (int(group) for group in match.groups())
    return max(min(x1, x2) - 1, 0), max(min(y1, y2) - 1, 0)


def seconds_of(value: Any, comment: str = "") -> tuple[float, str]:
    """An exposure in seconds, and a note on what was converted ('' if nothing).

    Raises
    ------
    Unreadable : no number, negative, or longer than any exposure.
    """
    fraction = _FRACTION.match(value) if isinstance(value, str) else None
    if fraction:
        seconds, note = 1.0 / max(float(fraction[1]), 1e-9), "is a fraction of a second"
    else:
        number, unit = number_and_unit(value)
        if number is None:
            raise Unreadable("is no number")
        factor, note = _seconds_factor(unit, comment)
        seconds = number * factor
    if seconds < 0.0:
        raise Unreadable("is negative")
    if seconds > _LONGEST_S:
        raise Unreadable("is longer than any exposure")
    return seconds, note


def _seconds_factor(stated: str, comment: str) -> tuple[float, str]:
    if stated:
        for pattern, factor, name in ((_MILLI, 1e-3, "ms"), (_MICRO, 1e-6, "us"), (_MINUTE, 60.0, "minutes")):
            if pattern.fullmatch(stated):
                return factor, f"is in {name}"
        if re.fullmatch(r"(?:s|secs?|seconds?)\.?|\"", stated, re.IGNORECASE):
            return 1.0, ""
        raise Unreadable("is no number of seconds")
    units = ((_SECOND, 1.0, ""), (_MILLI, 1e-3, "ms"), (_MICRO, 1e-6, "us"), (_MINUTE, 60.0, "minutes"))
    bracketed = next((b for b in _BRACKETED.findall(comment) if any(u.fullmatch(b) for u, _, _ in units)), "")
    for text in (bracketed, comment):
        # what the comment names first is the unit: 'seconds (not ms)'
        found = [(match.start(), factor, name) for unit, factor, name in units if (match := unit.search(text))]
        if found:
            _, factor, name = min(found)
            return factor, f"is in {name} by its comment" if name else ""
    return 1.0, ""


def celsius_of(value: Any, comment: str = "") -> tuple[float, str]:
    """A sensor temperature in °C, and a note on what was converted ('' if nothing).

    Kelvin is recognised by the unit, by the comment, or by a number between 150 and 400.

    Raises
    ------
    Unreadable : no number, a mark for 'no value' (999, -999, absolute zero), or no temperature of a sensor.
    """
    if _HEAT_SINK.search(comment) or (_FOREIGN.search(comment) and not _SENSORS.search(comment)):
        raise Unreadable("is not the sensor's, by its comment")
    number, unit = number_and_unit(value)
    unit = unit.replace("°", "").replace("º", "").strip()
    if number is None:
        raise Unreadable("is no number")
    if unit and not (_CELSIUS.match(unit) or _KELVIN.search(unit) or _FAHRENHEIT.search(unit)):
        raise Unreadable("is no temperature")
    if abs(number) in _SENTINELS or number <= -ZERO_C_K + 0.001:
        raise Unreadable("is the mark for 'no value'")
    in_kelvin = bool(_KELVIN.search(unit) or (not unit and _KELVIN.search(comment)))
    if in_kelvin:
        if number <= 0.0:
            raise Unreadable("is the mark for 'no value'")
        celsius, note = number - ZERO_C_K, "is in kelvin"
    elif _FAHRENHEIT.search(unit) or (not unit and _FAHRENHEIT.search(comment)):
        celsius, note = (number - 32.0) / 1.8, "is in Fahrenheit"
    elif not unit and _KELVIN_FROM < number <= _KELVIN_TO:
        celsius, note = number - ZERO_C_K, "can only be kelvin"
    else:
        celsius, note = number, ""
    if not _LOWEST_C <= celsius <= _HIGHEST_C:
        raise Unreadable("is no temperature of a sensor")
    return round(celsius, 9) if note else celsius, note  # 213.671 K is -59.479 °C, not -59.47899999999998


def iso_speed(value: Any) -> float | None:
    """800.0 for 'ISO 800' or 'ISO800', else None."""
    match = re.fullmatch(r"\s*ISO[ -]?(\d{1,7})\s*", value, re.IGNORECASE) if isinstance(value, str) else None
    return float(match[1]) if match else None


def is_per_adu(comment: str) -> bool:
    """True where a comment says electrons per ADU (count, DN)."""
    return bool(_PER_ADU.search(comment))


_DATE = re.compile(r"^(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ]\s*(.*))?$")
_OLD_DATE = re.compile(r"^(\d{1,2})[-/.](\d{1,2})[-/.](\d{2}|\d{4})(?:[T ]\s*(.*))?$")
_TIME = re.compile(r"^(\d{1,2}):(\d{1,2})(?::(\d{1,2})([.,]\d*)?)?\s*(Z|UTC?|GMT|[+-]\d{2}:?\d{2})?$", re.IGNORECASE)


def is_date(value: Any) -> bool:
    """True for text that begins as a date does."""
    return isinstance(value, str) and bool(re.match(r"\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}", value))


def utc_of(date: Any, time: Any = "") -> str:
    """ISO date and time in UTC ('2019-05-06T23:49:21.000'), the date alone where there is no time, '' if unreadable.

    Reads ISO dates with any number of decimals and an offset, 'DD/MM/YY' (years below 70 are 20YY) and 'MM/DD/YY'
    where the month would be above 12. Years before 1970 are marks for 'no value'.
    """
    text = text_of(date) if isinstance(date, str) else ""
    match, old = _DATE.match(text), _OLD_DATE.match(text)
    if match:
        year, month, day, rest = int(match[1]), int(match[2]), int(match[3]), match[4]
    elif old:
        day, month, year, rest = int(old[1]), int(old[2]), int(old[3]), old[4]
        if year < 100:
            year += 2000 if year < 70 else 1900
        if month > 12 >= day:
            day, month = month, day
    else:
        return ""
    try:
        midnight = datetime(year, month, day)
    except ValueError:
        return ""
    if not 1970 <= year <= 2200:
        return ""
    offset = _seconds_into_day(rest or "")
    if offset is None:
        offset = _seconds_into_day(text_of(time) if isinstance(time, str) else "")
    return midnight.strftime("%Y-%m-%d") if offset is None else _iso(midnight + offset)


def _seconds_into_day(text: str) -> timedelta | None:
    match = _TIME.match(text.strip())
    if match is None:
        return None
    hours, minutes, seconds = int(match[1]), int(match[2]), int(match[3] or 0)
    if hours > 24 or minutes > 59 or seconds > 60:
        return None
    fraction = float("0" + match[4].replace(",", ".")) if match[4] else 0.0
    zone = match[5] or ""
    shift = timedelta(0)
    if zone[:1] in ("+", "-") and zone:
        digits = zone[1:].replace(":", "")
        shift = timedelta(hours=int(digits[:2]), minutes=int(digits[2:])) * (1 if zone[0] == "+" else -1)
    return timedelta(hours=hours, minutes=minutes, seconds=seconds + fraction) - shift


def utc_of_mjd(mjd: float | None) -> str:
    """ISO date and time of a modified Julian date, '' outside 1970 to 2200."""
    if mjd is None or not 40587.0 <= mjd <= 124593.0:
        return ""
    return _iso(datetime(1858, 11, 17) + timedelta(days=mjd))


def _iso(moment: datetime) -> str:
    rounded = moment.replace(tzinfo=UTC) + timedelta(microseconds=500)
    return rounded.strftime("%Y-%m-%dT%H:%M:%S.") + f"{rounded.microsecond // 1000:03d}"


def shifted(utc: str, seconds: float) -> str:
    """An ISO time from `utc_of` moved by so many seconds; a date alone or '' is returned as it is."""
    if len(utc) <= 10 or abs(seconds) > _LONGEST_S:
        return utc
    return _iso(datetime.fromisoformat(utc) + timedelta(seconds=seconds))
