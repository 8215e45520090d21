"""Looks quantities up in one header, in the order of trust, and collects notes and problems on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from darkpipe.errors import FrameError, SettingsError
from darkpipe.files import keywords as kw
from darkpipe.files import values
from darkpipe.files.frame_kinds import history_says, kind_of, kind_of_number, says_done
from darkpipe.files.values import Card, Unreadable, shown

QUANTITIES = tuple(kw.KEYWORDS)
"""Names under which settings may add keywords of their own (`synonyms`)."""

_HIGHEST_BINNING = 64
_LOWEST_SATURATION_ADU = 255.0
_NO_OBJECT = frozenset(("test", "untitled", "default", "image", "object", "snapshot"))
Value = TypeVar("Value")


class HeaderReader:
    """One header being read.

    notes: what was assumed or converted. problems: by quantity, what makes a dark or bias unusable.
    """

    def __init__(self, cards: Iterable[Card], synonyms: Mapping[str, Sequence[str]]) -> None:
        unknown = sorted(set(synonyms) - set(QUANTITIES))
        if unknown:
            raise SettingsError(
                f"no quantity is called {unknown[0]!r}", where="synonyms", do=f"Known are {', '.join(QUANTITIES)}."
            )
        self.synonyms = synonyms
        self.notes: list[str] = []
        self.problems: dict[str, str] = {}
        self.sources: dict[str, str] = {}
        self._cards: dict[str, list[Card]] = {}
        for card in cards:
            self._cards.setdefault(card.keyword.upper(), []).append(card)

    # --- looking up

    def keywords(self, quantity: str) -> tuple[str, ...]:
        """Keywords of a quantity, those of the settings first."""
        return (*(keyword.upper() for keyword in self.synonyms.get(quantity, ())), *kw.KEYWORDS[quantity])

    def cards(self, keyword: str) -> list[Card]:
        """All cards of a keyword that hold something."""
        return [card for card in self._cards.get(keyword, ()) if card.value is not None and card.value != ""]

    def first(self, keyword: str) -> Card | None:
        """The first such card."""
        return next(iter(self.cards(keyword)), None)

    def raise_problem(self) -> None:
        """Raise FrameError for the first problem, if there is any."""
        for problem in self.problems.values():
            raise FrameError(problem, do="Correct the header, or name the right keyword under synonyms.")

    def _readable(self, keyword: str, read: Callable[[Card], Value], faults: list[str]) -> list[tuple[Card, Value]]:
        found: list[tuple[Card, Value]] = []
        for card in self.cards(keyword):
            try:
                found.append((card, read(card)))
            except Unreadable as error:
                faults.append(f"{keyword} = {shown(card.value)} {error}")
        return found

    def _quantity(self, quantity: str, read: Callable[[Card], tuple[float, str]]) -> float | None:
        """First readable number of a quantity; contradictions and unreadable content become problems."""
        faults: list[str] = []
        for keyword in self.keywords(quantity):
            found = self._readable(keyword, read, faults)
            if not found:
                continue
            numbers = [number for _, (number, _) in found]
            if not all(math.isclose(numbers[0], number, rel_tol=1e-6, abs_tol=1e-6) for number in numbers):
                self.problems[quantity] = f"{keyword} stands more than once with different values: " + ", ".join(
                    f"{number:g}" for number in numbers
                )
                return None
            card, (number, note) = found[0]
            self.sources[quantity] = f"{keyword} = {shown(card.value)}"
            if note:
                self.notes.append(f"{keyword} = {shown(card.value)} {note}")
            self.notes.extend(f"{fault}; {keyword} taken" for fault in faults)
            return number
        if faults:
            self.problems[quantity] = "; ".join(faults)
        return None

    # --- kind

    def kind(self, exposure_s: float | None, bias_max_exposure_s: float) -> tuple[str, bool, str]:
        """Kind of the frame, whether that is assumed, and why it is no raw dark or bias ('' if it may be one)."""
        made = self._made_from_others(exposure_s)
        kind, assumed, source = self._stated_kind()
        if kind is None and not made and "type" not in self.problems:
            kind, source = self._kind_by_object()
            assumed = True
        if made or kind == "master":
            stated = f"{source}: a stacked or calibrated frame, not a raw one" if kind == "master" else ""
            return "master", False, stated or made
        if kind in ("light", "flat", "other"):
            what = {"light": "a light frame", "flat": "a flat frame", "other": "neither dark nor bias"}[kind]
            return kind, assumed, f"{source}: {what}" + (" (no keyword states the type)" if assumed else "")
        if kind is None and exposure_s is None:
            return "unknown", True, ""
        if kind is None:
            self.notes.append(f"no keyword states the type ({kw.KEYWORDS['type'][0]}, …): taken for a dark or bias")
        if kind != "bias" and exposure_s is not None and exposure_s <= bias_max_exposure_s:
            if kind == "dark":
                self.notes.append(f"{source}, {self.sources.get('exposure', '')}: so short that it is a bias")
            return "bias", assumed, ""
        return kind or "dark", assumed, ""

    def _stated_kind(self) -> tuple[str | None, bool, str]:
        for keyword in self.keywords("type"):
            found: list[tuple[Card, str]] = []
            for card in self.cards(keyword):
                kind = self._kind_on(keyword, card)
                if kind is not None:
                    found.append((card, kind))
            if not found:
                continue
            card, kind = found[0]
            if len({kind for _, kind in found}) > 1:
                self.problems["type"] = f"{keyword} stands more than once with different values: " + ", ".join(
                    shown(card.value) for card, _ in found
                )
                return None, False, keyword
            source = f"{keyword} = {shown(card.value)}"
            self.sources["type"] = source
            return kind, False, source
        return None, True, ""

    @staticmethod
    def _kind_on(keyword: str, card: Card) -> str | None:
        if keyword in kw.NUMERIC_TYPES:
            number = values.integer_of(card.value)
            if number is not None:
                return kind_of_number(number)
        if not isinstance(card.value, str) or values.is_date(card.value):
            return None
        return kind_of(card.value)

    def _kind_by_object(self) -> tuple[str | None, str]:
        """Without a type the object tells: 'Hydrogen-dark' is a dark, 'M 31' was taken with the shutter open."""
        for keyword in self.keywords("object"):
            card = self.first(keyword)
            text = values.text_of(card.value) if card is not None and isinstance(card.value, str) else ""
            kind = kind_of(text) if text.casefold() not in _NO_OBJECT else None
            if kind is not None:
                source = f"{keyword} = {shown(text)}"
                self.notes.append(f"{source} tells the type, no other keyword does")
                return ("light" if kind == "other" else kind), source
        return None, ""

    def _made_from_others(self, exposure_s: float | None) -> str:
        """Words for a frame that is stacked or calibrated, '' for a raw one."""
        for keyword in kw.COMBINED:
            for card in self.cards(keyword):
                count = values.number_of(card.value)
                if count is not None and count > 1:
                    return f"{keyword} = {shown(card.value)}: made from several frames (a master), not a raw one"
        for keyword in kw.CALIBRATED:
            for card in self.cards(keyword):
                if says_done(values.text_of(card.value)) and not _is_false(card.value):
                    return f"{keyword} = {shown(card.value)}: a calibrated or master frame, not a raw one"
        for card in self.cards(kw.CREATOR):
            if values.text_of(card.value).startswith(kw.OURS):
                return f"{kw.CREATOR} = {shown(card.value)}: a product of this pipeline, not a raw frame"
        sub = self.first(kw.SUB_EXPOSURE)
        sub_s = values.number_of(sub.value) if sub is not None else None
        if sub_s and exposure_s and 0 < sub_s < 0.75 * exposure_s:
            return f"{kw.SUB_EXPOSURE} = {sub_s:g} in {exposure_s:g} s: a stack of shorter exposures, not a raw frame"
        told = history_says(str(card.value) for card in self.cards(kw.HISTORY))
        return f"{kw.HISTORY} tells of {told!r}: a calibrated or master frame, not a raw one" if told else ""

    # --- numbers

    def exposure(self) -> float | None:
        """Exposure [s]."""
        return self._quantity("exposure", lambda card: values.seconds_of(card.value, card.comment))

    def temperatures(self) -> tuple[float | None, bool, float | None]:
        """Sensor temperature [°C], whether it is only the set point, and the set point [°C]."""
        measured = self._quantity("temperature", lambda card: values.celsius_of(card.value, card.comment))
        set_point = self._quantity("set_point", lambda card: values.celsius_of(card.value, card.comment))
        if "set_point" in self.problems:
            self.notes.append(self.problems.pop("set_point"))
        if measured is not None or set_point is None:
            return measured, False, set_point
        why = self.problems.pop("temperature", "no measured temperature")
        self.notes.append(f"{why}: the set point ({self.sources['set_point']}) is taken for the temperature")
        return set_point, True, set_point

    def gains(self) -> tuple[float | None, float | None, str]:
        """Gain setting, e- per ADU, and the gain where it is a word. The two numbers are never taken for each other."""
        egain = self._quantity("egain", _positive)
        if "egain" in self.problems:
            self.notes.append(self.problems.pop("egain"))
        setting: float | None = None
        word = ""
        for card in (card for keyword in self.keywords("gain") for card in self.cards(keyword)):
            stated = f"{card.keyword} = {shown(card.value)}"
            number, unit = values.number_and_unit(card.value)
            if number is None:
                number = values.iso_speed(card.value)
                word = word or ("" if number is not None else values.text_of(card.value))
            elif values.is_per_adu(card.comment) or values.is_per_adu(unit):
                if egain is None and number > 0:
                    egain = number
                    self.notes.append(f"{stated} is e-/ADU by its comment, not a setting")
                number = None
            elif _is_repeated(number, egain):
                self.notes.append(f"{stated} repeats the e-/ADU, it is no setting")
                number = None
            elif number != int(number) and number < 10 and egain is None:
                self.notes.append(f"{stated} may be e-/ADU: it only tells configurations apart")
            if setting is None and number != -1:  # -1: the camera has no such setting
                setting = number
        return setting, egain, word

    def setting(self, quantity: str) -> float | None:
        """A number the user set on the camera; -1 stands for 'has none'."""
        for keyword in self.keywords(quantity):
            for card in self.cards(keyword):
                number = values.number_of(card.value)
                if number is not None and number != -1:
                    return number
        return None

    def em_gain(self) -> float | None:
        """EM gain; below 1 stands for 'off'."""
        for keyword in self.keywords("em_gain"):
            for card in self.cards(keyword):
                number = values.number_of(card.value)
                if number is not None and number >= 1:
                    return number
        return None

    def pedestal(self) -> float:
        """Number to add to make the data zero-based [ADU]."""
        for keyword in self.keywords("pedestal"):
            for card in self.cards(keyword):
                number = values.number_of(card.value)
                if number is not None and abs(number) <= 65535:
                    return number
                self.notes.append(f"{keyword} = {shown(card.value)} is no pedestal: ignored")
        return 0.0

    def saturation(self) -> float | None:
        """Saturation level [ADU] where the header tells one; DATAMAX may be the image's own maximum instead."""
        for keyword in self.keywords("saturation"):
            for card in self.cards(keyword):
                number = values.number_of(card.value)
                if number is None or not _LOWEST_SATURATION_ADU <= number <= 2.0**32:
                    continue
                whole_scale = number == int(number) and (int(number) & (int(number) + 1)) == 0
                if keyword != kw.KEYWORDS["saturation"][0] or whole_scale or "satur" in card.comment.casefold():
                    return number
        return None

    # --- geometry

    def binning(self) -> tuple[int, int]:
        """Binning (x, y); (1, 1) where no keyword tells."""
        faults: list[str] = []
        for x_keyword, y_keyword in kw.BINNING_PAIRS:
            x, y = self._factor(x_keyword, faults), self._factor(y_keyword, faults)
            if x and y:
                return x, y
            if x or y:
                self.notes.append(f"{x_keyword if x else y_keyword} alone: taken for both axes")
                return x or y, y or x
        for keyword in self.keywords("binning"):
            for card in self.cards(keyword):
                pair = values.pair_of(card.value)
                if pair is not None and max(pair) <= _HIGHEST_BINNING:
                    return pair
                faults.append(f"{keyword} = {shown(card.value)} is no binning")
        if faults:
            self.problems["binning"] = "; ".join(faults)
        return 1, 1

    def _factor(self, keyword: str, faults: list[str]) -> int:
        """Binning factor, 0 where there is none."""
        factors = set()
        for card in self.cards(keyword):
            factor = values.integer_of(card.value)
            if factor is None or not 1 <= factor <= _HIGHEST_BINNING:
                faults.append(f"{keyword} = {shown(card.value)} is no binning")
            else:
                factors.add(factor)
        if len(factors) > 1:
            faults.append(f"{keyword} stands more than once with different values")
        return factors.pop() if len(factors) == 1 else 0

    def subframe(self) -> tuple[int, int]:
        """Zero-based origin (x, y) of the read-out region."""
        for x_keyword, y_keyword in kw.SUBFRAME_PAIRS:
            x_card, y_card = self.first(x_keyword), self.first(y_keyword)
            x = values.integer_of(x_card.value) if x_card else None
            y = values.integer_of(y_card.value) if y_card else None
            if (x is not None or y is not None) and min(x or 0, y or 0) >= 0 and max(x or 0, y or 0) < 10**6:
                return x or 0, y or 0
        for keyword in self.keywords("subframe"):
            for card in self.cards(keyword):
                origin = values.section_origin(card.value)
                if origin is not None:
                    return origin
        return self._andor_origin()

    def _andor_origin(self) -> tuple[int, int]:
        card = self.first(kw.ANDOR_RECTANGLE)
        sides = [values.integer_of(part) for part in str(card.value).split(",")] if card else []
        if len(sides) == 4 and all(side is not None and 1 <= side < 10**6 for side in sides):
            left, top, _, bottom = (side or 1 for side in sides)
            return left - 1, min(top, bottom) - 1
        return 0, 0

    # --- texts

    def text(self, quantity: str) -> str:
        """First non-empty text of a quantity, '' if there is none."""
        for keyword in self.keywords(quantity):
            for card in self.cards(keyword):
                text = "" if isinstance(card.value, bool) else values.text_of(card.value)
                if text and text.casefold() not in ("unknown", "none", "n/a"):
                    return text
        return ""

    def readout_mode(self, gain_text: str) -> str:
        """Readout mode, with the USB limit and a gain in words: all that amplifier glow and noise hang on."""
        usb = self.text("usb_limit")
        return " ".join(part for part in (self.text("readout_mode"), gain_text, f"usb{usb}" if usb else "") if part)

    def bayer(self) -> str:
        """Colour pattern as 'RGGB', with its offset behind where that is not (0, 0): 'RGGB+1+0'; '' if monochrome."""
        for keyword in self.keywords("bayer"):
            for card in self.cards(keyword):
                pattern = values.text_of(card.value).upper()
                if len(pattern) == 4 and set(pattern) <= set("RGBCMY"):
                    cards = [self.first(keyword) for keyword in kw.BAYER_OFFSETS]
                    x, y = ((values.integer_of(card.value) or 0) % 2 if card else 0 for card in cards)
                    return pattern + (f"+{x}+{y}" if x or y else "")
        return ""

    def date_obs(self, exposure_s: float | None) -> str:
        """Begin of the exposure, UTC."""
        times = [card.value for keyword in kw.TIME_KEYWORDS for card in self.cards(keyword)]
        for keyword in kw.DATE_KEYWORDS:
            for card in self.cards(keyword):
                found = next((utc for time in times if len(utc := values.utc_of(card.value, time)) > 10), "")
                found = found or values.utc_of(card.value)
                if found:
                    return found
        for keywords, zero in ((kw.MJD_KEYWORDS, 0.0), (kw.JD_KEYWORDS, 2400000.5)):
            for keyword in keywords:
                day = self.first(keyword)
                number = values.number_of(day.value) if day else None
                found = values.utc_of_mjd(number - zero) if number is not None else ""
                if found:
                    return found
        end = self.first(kw.DATE_END)
        return values.shifted(values.utc_of(end.value), -(exposure_s or 0.0)) if end else ""


def _positive(card: Card) -> tuple[float, str]:
    number, _ = values.number_and_unit(card.value)
    if number is None or not 0 < number < 1e4:
        raise Unreadable("is no conversion gain")
    return number, ""


def _is_repeated(number: float, egain: float | None) -> bool:
    return egain is not None and number != int(number) and math.isclose(number, egain, rel_tol=1e-3)


def _is_false(value: object) -> bool:
    return value is False or value == 0
