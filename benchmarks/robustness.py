"""The promise of docs/reliability.md, tried: no input, crash, full disk or hostile file makes darkpipe lose a frame,
write half a product, mix frames that do not belong together, hang, or run what a file says.

--quick takes a minute or two; --full feeds more than 20,000 inputs and takes long. Every section is a module with
`run(full) -> list[Row]`. The exit code is 1 if a row breaks its promise.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from benchmarks.robustness_rows import Row  # noqa: E402

SECTIONS = {"input": "robustness_input", "crashes": "robustness_crashes"}
SHOWN = 10  # broken promises of a row that are printed

COUNTS = "".join(f"{name:>8}" for name in ("tried", "good", "refused", "errors", "escaped", "late"))
HEAD = f"{'promise':<34} {COUNTS} {'peak MB':>8} {'seconds':>8}"


def told(row: Row) -> str:
    """The lines of a row: figures, a note, and what broke the promise."""
    peak = "" if row.peak_mb is None else f"{row.peak_mb:.0f}"
    verdict = f"BROKEN ({len(row.broken)})" if row.broken else "ok"
    counts = "".join(f"{count:>8}" for count in (row.tried, row.good, row.refused, row.errors, row.escaped, row.late))
    lines = [f"{row.name:<34.34} {counts} {peak:>8} {row.seconds:>8.1f}  {verdict}"]
    lines += [f"    {row.note}"] if row.note else []
    lines += [f"    broken: {' '.join(line.split())[:300]}" for line in row.broken[:SHOWN]]
    lines += [f"    … and {len(row.broken) - SHOWN} more"] if len(row.broken) > SHOWN else []
    return "\n".join(lines)


def run_sections(names: Sequence[str], full: bool) -> list[Row]:
    """The rows of some sections, printed as they come."""
    rows: list[Row] = []
    for name in names:
        if not (REPOSITORY / "benchmarks" / f"{SECTIONS[name]}.py").exists():
            print(f"{name}: this checkout has no such section")
            continue
        for row in importlib.import_module(f"benchmarks.{SECTIONS[name]}").run(full):
            print(told(row), flush=True)
            rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="a few inputs of every kind (the default)")
    length.add_argument("--full", action="store_true", help="more than 20,000 inputs, hundreds of runs")
    parser.add_argument("--only", choices=tuple(SECTIONS), action="append", help="this section; may be given again")
    options = parser.parse_args(arguments)
    begun_s = time.monotonic()
    print(HEAD)
    rows = run_sections(options.only or list(SECTIONS), options.full)
    broken = sum(bool(row.broken) for row in rows)
    tried = sum(row.tried for row in rows)
    print(f"{len(rows)} promises, {tried} tries: {broken} broken; {time.monotonic() - begun_s:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
