"""Cards of a header as they stand in a file. astropy writes each card; one that was written before is taken as it was.

Most cards of a product are those of the product before it, and astropy looks into its configuration several times for
each: that took longer than to write the pixels. What astropy has rules of its own for (`HIERARCH`, records, long
comments) goes through a header of astropy as a whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from darkpipe.files.keywords import HISTORY

COMMENTARY = (HISTORY, "COMMENT")

PLAIN = re.compile(r"[A-Z0-9_-]{1,8}")
_SPECIAL = frozenset(("END", "CONTINUE", "HIERARCH"))
_LONGEST_COMMENTARY = 72


@dataclass
class Cards:
    """Cards in the order in which they were set; one that is set again keeps its place, commentary comes last."""

    settings: list[tuple[str, Any, str]] = field(default_factory=list)

    def set(self, keyword: str, value: Any, comment: str = "") -> None:
        """Set a card, or add one of HISTORY or COMMENT."""
        self.settings.append((keyword, value, comment))

    def text(self) -> str:
        """All cards behind each other, without END; the same as astropy's."""
        if not all(_plain(keyword, value) for keyword, value, _ in self.settings):
            return self._by_astropy()
        single: dict[str, str] = {}
        commentary: dict[str, list[str]] = {}
        for keyword, value, comment in self.settings:
            if keyword in COMMENTARY:
                commentary.setdefault(keyword, []).append(card_text(keyword, value, ""))
            else:
                single[keyword] = card_text(keyword, value, comment)
        return "".join((*single.values(), *(text for texts in commentary.values() for text in texts)))

    def _by_astropy(self) -> str:
        from astropy.io import fits

        header = fits.Header()
        for keyword, value, comment in self.settings:
            header[keyword] = (value, comment)
        return str(header.tostring(endcard=False, padding=False))


def _plain(keyword: str, value: Any) -> bool:
    """Whether what astropy makes of a card depends on nothing but the card."""
    if not PLAIN.fullmatch(keyword) or keyword in _SPECIAL:
        return False
    if keyword in COMMENTARY:
        return isinstance(value, str) and len(value) <= _LONGEST_COMMENTARY
    return value is not None and not (isinstance(value, str) and ": " in value)  # that may be a record


def card_text(keyword: str, value: Any, comment: str) -> str:
    """A card as astropy writes it: 80 characters, or a multiple of that."""
    # numbers may be equal and yet not be written alike: 1, 1.0 and True, 0.0 and -0.0
    return _written(keyword, type(value).__name__, repr(value), comment, _Held(value))


class _Held:
    """A value that has no say in whether two cards are the same one."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=4096)
def _written(keyword: str, kind: str, shown: str, comment: str, held: _Held) -> str:
    from astropy.io import fits

    return str(fits.Card(keyword, held.value, comment))
