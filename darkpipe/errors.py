"""Failures that are expected: each says what is wrong, where, and what to do about it.

A `PipelineError` fails its job or its run with a readable message; any other exception is a bug and keeps its
traceback. The controller is the one place that catches them.
"""

from __future__ import annotations

from pathlib import Path


def printable(text: str) -> str:
    """A text that may hold what a header or a file name says, as one line that any terminal or log file can show.

    Line feeds, tabs and blanks of other kinds become blanks. Whatever else does not print is written out as an escape:
    control characters, which would move the cursor or colour the terminal, marks that turn the direction of writing
    round, and bytes of a file name that are no text.
    """
    if text.isprintable():
        return text
    return "".join(_shown(c) for c in text)


def one_line(text: object, most: int = 200) -> str:
    """The beginning of a foreign text, or of what somebody else's exception says, fit for one line of ours: blanks
    in the place of whatever does not print."""
    said = str(text) or (type(text).__name__ if isinstance(text, BaseException) else "")
    return " ".join("".join(c if c.isprintable() else " " for c in said).split())[:most]


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() and character not in _SEPARATORS else ascii(character)[1:-1]


_SEPARATORS = "\x1c\x1d\x1e\x1f\x85\x0b\x0c"  # blanks to Python, and to a terminal something else


class PipelineError(Exception):
    """Something expected went wrong.

    Parameters
    ----------
    what : the fault, one sentence without its full stop.
    where : the file, keyword or setting it was found in.
    do : what the user can do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | Path | None = None, do: str | None = None) -> None:
        self.what, self.where, self.do = what, None if where is None else str(where), do
        super().__init__(what, self.where, do)

    def __str__(self) -> str:
        place = f" [{self.where}]" if self.where else ""
        advice = f". {self.do}" if self.do else ""
        return printable(f"{self.what}{place}{advice}")

    def __reduce__(self) -> tuple[object, ...]:
        # exceptions cross process borders by pickling; keyword-only arguments need this
        return (_rebuild, (type(self), self.what, self.where, self.do))


def _rebuild(kind: type[PipelineError], what: str, where: str | None, do: str | None) -> PipelineError:
    return kind(what, where=where, do=do)


class SettingsError(PipelineError):
    """A flag or a setting is wrong; nothing was run."""

    exit_code = 2


class FrameError(PipelineError):
    """A frame cannot be read, or does not say what it must say."""


class ProductError(PipelineError):
    """A file of the output directory is missing, damaged or of another kind than expected."""


class DesignError(PipelineError):
    """The campaign cannot carry what was asked of it (too few temperatures, exposures, frames)."""


class NothingToModelError(PipelineError):
    """This configuration holds no darks: what could be made was made, and there is nothing more to do."""


class LeftOutError(PipelineError):
    """This batch was left out, as the settings ask in such a case; the next one is tried."""


class BusyError(PipelineError):
    """Another run holds the lock of this output directory."""

    exit_code = 75
