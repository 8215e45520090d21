"""The one table of speed: a line is a piece of work, what the product takes, what others take, and the floor."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

PACKAGES = ("numpy", "numba", "scipy", "astropy", "ccdproc", "bottleneck", "lmfit")
PROGRAMS = {"siril-cli": "siril", "astarithmetic": "gnuastro"}
HEAD = ("work", "product", "others", "ratio", "floor", "product / floor", "target", "verdict")


@dataclass(frozen=True)
class Line:
    """A piece of work.

    Parameters
    ----------
    work : what is done, in words, with its size.
    product_s : seconds that the product takes.
    peers : seconds that others take for the same, by their name.
    floor_s : seconds of what cannot be left out (to read, to convert, to write); None where there is no such figure.
    target : what is to be reached, in words; empty: nothing is asked.
    passed : whether it is; None: shown, not judged.
    note : what the reader has to know beside it: peak memory, what was left out, what a peer does otherwise.
    """

    work: str
    product_s: float
    peers: dict[str, float]
    floor_s: float | None
    target: str
    passed: bool | None
    note: str = ""


def seconds(value: float) -> str:
    """A time with three digits, in the unit that suits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}" if value < 1000 * scale else f"{value / scale:.0f} {unit}"
    return f"{value / 1e-9:.3g} ns"


def cells(line: Line) -> tuple[str, ...]:
    """The texts of a line, under HEAD. Peers and their ratios stand in the same order."""
    return (
        line.work + (f" ({line.note})" if line.note else ""),
        seconds(line.product_s),
        ", ".join(f"{name} {seconds(taken)}" for name, taken in line.peers.items()),
        ", ".join(f"{taken / line.product_s:.3g} ×" for taken in line.peers.values()),
        "" if line.floor_s is None else seconds(line.floor_s),
        "" if line.floor_s is None else f"{line.product_s / line.floor_s:.3g} ×",
        line.target,
        {None: "", True: "reached", False: "MISSED"}[line.passed],
    )


def markdown(lines: Sequence[Line]) -> str:
    """The table for a page, with the machine and the versions below it."""
    rows = [HEAD, *map(cells, lines)]
    wide = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    texts = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True)) + " |" for row in rows]
    texts.insert(1, "|" + "|".join("-" * (width + 2) for width in wide) + "|")
    return "\n".join([*texts, "", machine()])


def brief(lines: Sequence[Line]) -> str:
    """Of lines that have a target: what it takes, how many times more others take, how far from the floor."""
    rows = ["| work | takes | others, times as long | times the floor |", "|---|---|---|---|"]
    for line in (line for line in lines if line.target):
        others = ", ".join(f"{name} {taken / line.product_s:.3g}" for name, taken in line.peers.items())
        floor = "" if line.floor_s is None else f"{line.product_s / line.floor_s:.2g}"
        rows.append(f"| {line.work} | {seconds(line.product_s)} | {others} | {floor} |")
    return "\n".join([*rows, "", machine()])


def put_into(page: Path, script: str, text: str) -> None:
    """Put a text between the marks of a script in a page.

    Raises
    ------
    ValueError
        when the page has no such marks.
    """
    start, end = f"<!-- measured by benchmarks/{script} -->", "<!-- end of what was measured -->"
    whole = page.read_text(encoding="utf-8")
    before, found, rest = whole.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no place for what {script} measures: {start} … {end}")
    page.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def machine() -> str:
    """Processor, cores, memory, versions and date, as a paragraph."""
    packages = []
    for name in PACKAGES:
        try:
            packages.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    packages += [f"{name} {version}" for program, name in PROGRAMS.items() if (version := _version(program))]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GB" if _has_sysconf() else ""
    return (
        f"{_processor()}, {cores} cores{memory}; {platform.system()}, Python {platform.python_version()}, "
        f"{', '.join(packages)}; {datetime.now(UTC):%Y-%m-%d}."
    )


def _has_sysconf() -> bool:
    return hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names


def _processor() -> str:
    table = Path("/proc/cpuinfo")
    if table.exists():
        for line in table.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(program: str) -> str | None:
    """The version that a program tells, as far as it stands in the first line."""
    if shutil.which(program) is None:
        return None
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    words = (told.stdout or told.stderr).partition("\n")[0].split()
    return next((word for word in words if word[:1].isdigit()), "")
