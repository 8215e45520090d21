"""A row of the table of `robustness.py`: one promise, and what became of everything that was tried against it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One promise.

    tried : inputs, runs, … that were made. good : of these, those that ended well (accepted, and rightly so).
    refused : rejected with a reason. broken : a line for each that broke the promise; [] where it holds.
    peak_mb : largest memory of a process of its own [MB]; None where it was not measured.
    errors : those that ended with a `PipelineError`. escaped, late : those with any other exception, or past their
    deadline; each has its line in `broken`, too.
    """

    name: str
    tried: int
    good: int
    refused: int
    broken: list[str]
    seconds: float
    peak_mb: float | None
    note: str
    errors: int = 0
    escaped: int = 0
    late: int = 0
