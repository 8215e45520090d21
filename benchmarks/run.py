"""Speed, as one table: each piece of work, the product, others in the same run, the floor, and the verdict.

``python benchmarks/run.py`` measures at full size (2048 x 2048, 500 frames); ``--quick`` with smaller sets, in less
than two minutes; ``--only whole`` one group; ``--markdown FILE`` writes the table there too, ``--write`` into
docs/speed.md and, of what has a target, README.md. It ends with 1 where a target is missed. Targets hold at full
size: a quick run judges those alone that do not depend on the size.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.table import Line, brief, markdown, put_into

REPOSITORY = Path(__file__).resolve().parent.parent
SPEED, README = REPOSITORY / "docs" / "speed.md", REPOSITORY / "README.md"
GROUPS = ("combine", "fit", "noise_maps", "use", "whole")


def collected(groups: Sequence[str], quick: bool) -> list[Line]:
    """The lines of each group that is there (a module of `benchmarks` with a function `lines`), in this order."""
    found: list[Line] = []
    for name in groups:
        if importlib.util.find_spec(f"benchmarks.{name}") is None:
            continue
        module = importlib.import_module(f"benchmarks.{name}")
        if not hasattr(module, "lines"):
            continue
        start = time.perf_counter()
        found += module.lines(quick)
        print(f"{name}: measured in {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where every target that was judged is reached."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller sets, less than two minutes")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, help="these groups alone")
    parser.add_argument("--markdown", type=Path, help="write the table to this file as well")
    parser.add_argument("--write", action="store_true", help="put the table into docs/speed.md and README.md")
    options = parser.parse_args(arguments)
    lines = collected(options.only, options.quick)
    table = markdown(lines)
    print(table)
    if options.markdown:
        options.markdown.write_text(table + "\n")
    if options.write:
        put_into(SPEED, "run.py", table)
        put_into(README, "run.py", brief(lines))
    return 1 if any(line.passed is False for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
