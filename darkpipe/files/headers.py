"""What a raw frame's header says, in our units; the keywords themselves stand in `keywords`.

Doubtful content is never guessed over silently: it becomes a note, or the frame is refused with the keyword named.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from darkpipe.files import keywords as kw
from darkpipe.files.header_reader import QUANTITIES, HeaderReader
from darkpipe.files.quiet import quietly
from darkpipe.files.values import Card

if TYPE_CHECKING:  # it takes its time to import
    from astropy.io import fits

__all__ = ["NO_SYNONYMS", "QUANTITIES", "FrameInfo", "configuration_name", "read_cards", "read_info", "usable_as"]

NO_SYNONYMS: Mapping[str, Sequence[str]] = MappingProxyType({})

_LONGEST_BIAS_S = 1.0  # called a bias, yet longer than any camera's shortest exposure: mislabelled


@dataclass(frozen=True)
class FrameInfo:
    """One frame as its header describes it.

    kind: 'dark', 'bias', 'light', 'flat', 'master' (stacked or calibrated), 'other' or 'unknown'.
    temperature_assumed: no thermometer reading was there; `temperature_c` is the set point.
    pedestal_adu: to be *added* to make the data zero-based.
    subframe: zero-based origin (x, y) as the camera counts it. binning: (x, y).
    date_obs: UTC, ISO; the date alone where no time is known; '' if unknown.
    refusal: why the frame is neither a raw dark nor a raw bias, naming the keyword; '' if nothing speaks against it.
    notes: what was assumed or converted, each naming its keyword.
    """

    kind: str
    kind_assumed: bool = False
    exposure_s: float | None = None
    temperature_c: float | None = None
    temperature_assumed: bool = False
    set_point_c: float | None = None
    gain_setting: float | None = None
    egain_e_per_adu: float | None = None
    offset_setting: float | None = None
    em_gain: float | None = None
    binning: tuple[int, int] = (1, 1)
    readout_mode: str = ""
    subframe: tuple[int, int] = (0, 0)
    camera: str = ""
    serial: str = ""
    filter_name: str = ""
    pedestal_adu: float = 0.0
    date_obs: str = ""
    roworder: str = ""
    flip: str = ""
    bayer: str = ""
    saturation_adu: float | None = None
    refusal: str = ""
    notes: tuple[str, ...] = ()


def read_info(
    header: fits.Header,
    *,
    synonyms: Mapping[str, Sequence[str]] = NO_SYNONYMS,
    bias_max_exposure_s: float = 0.01,
) -> FrameInfo:
    """Read a header.

    Parameters
    ----------
    header : of the image, whatever it holds.
    synonyms : more keywords for some of `QUANTITIES`; they are trusted before the known ones.
    bias_max_exposure_s : darks no longer than this are biases.

    Raises
    ------
    FrameError : a dark or bias whose header is unreadable or contradicts itself where it matters, naming the keyword.
    SettingsError : `synonyms` names an unknown quantity.
    """
    return read_cards(_cards_of(header), synonyms=synonyms, bias_max_exposure_s=bias_max_exposure_s)


def read_cards(
    cards: Iterable[Card],
    *,
    synonyms: Mapping[str, Sequence[str]] = NO_SYNONYMS,
    bias_max_exposure_s: float = 0.01,
) -> FrameInfo:
    """As `read_info`, from parsed cards."""
    reader = HeaderReader(cards, synonyms)
    exposure = reader.exposure()
    kind, assumed, refusal = reader.kind(exposure, bias_max_exposure_s)
    if kind == "bias" and exposure is None and "exposure" not in reader.problems:
        exposure = 0.0
        reader.notes.append("no exposure time: taken as 0 s for a bias")
    if kind == "bias" and not refusal and exposure is not None and exposure > _LONGEST_BIAS_S:
        named = " and ".join(reader.sources[name] for name in ("type", "exposure") if name in reader.sources)
        refusal = f"{named}: too long for a bias, mislabelled"
    temperature, temperature_assumed, set_point = reader.temperatures()
    gain, egain, gain_text = reader.gains()
    binning = reader.binning()
    if kind in ("dark", "bias", "unknown") and not refusal:
        reader.raise_problem()
    return FrameInfo(
        kind=kind,
        kind_assumed=assumed,
        exposure_s=exposure,
        temperature_c=temperature,
        temperature_assumed=temperature_assumed,
        set_point_c=set_point,
        gain_setting=gain,
        egain_e_per_adu=egain,
        offset_setting=reader.setting("offset"),
        em_gain=reader.em_gain(),
        binning=binning,
        readout_mode=reader.readout_mode(gain_text),
        subframe=reader.subframe(),
        camera=reader.text("camera"),
        serial=reader.text("serial"),
        filter_name=reader.text("filter"),
        pedestal_adu=reader.pedestal(),
        date_obs=reader.date_obs(exposure),
        roworder=reader.text("roworder").upper(),
        flip=reader.text("flip"),
        bayer=reader.bayer(),
        saturation_adu=reader.saturation(),
        refusal=refusal,
        notes=tuple(reader.notes),
    )


CALIBRATION = ("bias", "dark")
"""Kinds of frames that a model is made of."""


def usable_as(info: FrameInfo, kinds: Collection[str] = CALIBRATION) -> str | None:
    """Why a frame is none of these kinds, or cannot be used as such, naming the keyword; None if it can.

    Biases and darks that a model is made of need a temperature; frames to be calibrated only an exposure.
    """
    if set(kinds) != set(CALIBRATION):
        return _to_calibrate(info, kinds)
    if info.refusal:
        return info.refusal
    if info.kind == "unknown" or (info.kind in ("dark", "bias") and info.exposure_s is None):
        return f"no exposure time: none of {', '.join(kw.KEYWORDS['exposure'][:3])}, …"
    if info.kind not in ("dark", "bias"):
        return f"a {info.kind} frame"
    if info.temperature_c is None:
        return (
            f"no temperature: none of {', '.join(kw.KEYWORDS['temperature'][:3])}, … nor {kw.KEYWORDS['set_point'][0]}"
        )
    return None


def _to_calibrate(info: FrameInfo, kinds: Collection[str]) -> str | None:
    """The same for frames that are calibrated: the refusal of a light is that it is a light."""
    if info.kind not in kinds:
        what = info.refusal or f"a {info.kind} frame"
        return f"{what}; wanted here: {', '.join(sorted(kinds))}"
    if info.refusal and info.kind in CALIBRATION:
        return info.refusal
    if info.exposure_s is None or not info.exposure_s >= 0.0:
        return f"no exposure time: none of {', '.join(kw.KEYWORDS['exposure'][:3])}, …"
    return None


def configuration_name(info: FrameInfo, rows: int, cols: int) -> str:
    """A short name for the configuration a frame was taken in, safe as a file name on every system.

    Camera, serial, gain, EM gain, offset, binning, readout mode, sub-frame, orientation and shape make the name; a part
    that the header lacks is left out: ``ASI2600_g100_o50_b1_4176x6248`` (rows x cols). Frames belong to the same
    configuration exactly if their names are equal. Names of cameras and modes that differ only in blanks, '_' and '-'
    count as equal.
    """
    x, y = info.binning
    parts = [
        _safe(info.camera),
        "s" + _safe(info.serial) if info.serial and info.serial != info.camera else "",
        _numbered("g", info.gain_setting),
        _numbered("em", info.em_gain),
        _numbered("o", info.offset_setting),
        f"b{x}" if x == y else f"b{x}x{y}",
        "m" + _safe(info.readout_mode) if info.readout_mode else "",
        "at{}x{}".format(*info.subframe) if info.subframe != (0, 0) else "",
        "bottomup" if info.roworder == "BOTTOM-UP" else "",
        "f" + _safe(info.flip) if info.flip else "",
        f"{rows}x{cols}",
    ]
    return "_".join(part for part in parts if part)


_LONGEST_PART = 32


def _safe(text: str) -> str:
    """Letters, digits, '.', '+' and '-' only; a short hash stands for what that loses (but for blanks, '_', '-')."""
    plain = re.sub(r"[\s_-]+", "-", text).strip("-")
    safe = re.sub(r"[^A-Za-z0-9.+-]+", "-", plain)
    safe = re.sub(r"\.\.+", ".", re.sub(r"-+", "-", safe)).strip("-.")[:_LONGEST_PART].rstrip("-.")
    if safe == plain:
        return safe
    mark = hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{safe}-{mark}" if safe else mark


def _numbered(letter: str, value: float | None) -> str:
    return "" if value is None else letter + f"{value:.12g}"


def _cards_of(header: fits.Header) -> list[Card]:
    cards: list[Card] = []
    with quietly():
        for card in header.cards:
            try:
                cards.append(Card(str(card.keyword).upper(), card.value, str(card.comment)))
            except Exception:  # a card that astropy cannot parse; its errors have no common base
                continue
    return cards
