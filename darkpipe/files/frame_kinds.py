"""What kind of frame a text names, in the words that programs and people use."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NO_ANSWER = frozenset(
    ("", "unknown", "none", "na", "n a", "not set", "notset", "notyetset", "undefined", "unspecified")
)
_FILLERS = frozenset(("frame", "frames", "image", "images", "img", "field", "fields", "exposure", "raw", "type", "sub"))
_MASTER = frozenset(
    (
        *("stack", "stacked", "integration", "integrated", "combined", "average", "averaged", "mean", "median"),
        *("calibrated", "subtracted", "corrected", "reduced", "processed", "super", "superbias", "superdark"),
    )
)
_DARK = frozenset(("dark", "darks", "darkflat", "flatdark", "darkflats", "flatdarks", "darkcurrent"))
_BIAS = frozenset(("bias", "biases", "zero", "zeros", "zeroes", "offset", "offsets"))
_LIGHT = frozenset(
    (
        *("light", "lights", "object", "science", "sci", "target", "standard", "std", "spectrum", "sky", "star"),
        *("expose", "astro", "lightframe", "spectra", "imaging"),
    )
)
_NUMBERED = {1: "light", 2: "bias", 3: "dark", 4: "flat"}

_NOTHING_DONE = frozenset(
    (
        *("", "f", "n", "no", "none", "na", "n/a", "0", "0.0", "false", "raw", "unknown", "uncalibrated", "off"),
        *("omit", "omitted", "perform", "skipped", "incomplete", "not done", "undefined"),
    )
)
_HISTORY = re.compile(
    r"(?:bias|dark) subtraction \(|flat field \(|ImageIntegration|master frame generated|\bimcombine\b", re.IGNORECASE
)


def kind_of(text: str) -> str | None:
    """'dark', 'bias', 'light', 'flat', 'master' or 'other' as a text names it; None where it names nothing.

    Case, punctuation and the word 'frame' do not count; a dark taken for flats ('dark flat') is a dark.
    """
    words = re.sub(r"[^a-z0-9]+", " ", text.casefold()).split()
    if " ".join(words) in _NO_ANSWER or (words and all(word.isdigit() for word in words)):
        return None
    words = [word for word in words if word not in _FILLERS] or words
    if not words or set(words) <= _FILLERS:
        return None
    joined = "".join(words)
    if "master" in joined or any(word in _MASTER for word in words):
        return "master"
    if any(word in _DARK for word in words) or joined.startswith("dark"):
        return "dark"
    if any(word in _BIAS for word in words) or joined.startswith("bias"):
        return "bias"
    if any(word.startswith("flat") or word.endswith(("flat", "flats")) for word in words):
        return "flat"
    if any(word in _LIGHT for word in words):
        return "light"
    return "other"


def kind_of_number(number: int) -> str | None:
    """The kind behind a picture type of SBIG's and Software Bisque's programs."""
    return _NUMBERED.get(number)


def says_done(text: str) -> bool:
    """True where the value of a calibration mark says that something was done."""
    return " ".join(text.casefold().split()) not in _NOTHING_DONE


def history_says(lines: Iterable[str]) -> str:
    """The words of a history that tell of calibration or stacking, '' if there are none."""
    match = _HISTORY.search(" ".join(lines))
    return match.group(0) if match else ""
