"""Failures that are expected: each says what is wrong, where, and what to do about it.

A `PipelineError` fails its job or its run with a readable message; any other exception is a bug and keeps its
traceback. The controller is the one place that catches them.
"""

from __future__ import annotations

from pathlib import Path


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
        return f"{self.what}{place}{advice}"

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
