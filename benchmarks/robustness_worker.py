"""A process that is fed with bad input, under a limit of memory, and says of each what became of it: a line of JSON
before and one after, so that whoever reads knows at which one it died or hangs.

    python benchmarks/robustness_worker.py "frames" 1 0 1000 1
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from corpus.targets import TARGETS  # noqa: E402

SPARE_BYTES = 1536 << 20
"""Address space beyond what the imports took."""


def peak_mb() -> float:
    """Largest memory of this process so far [MB]."""
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def limit_memory() -> None:
    """Let what asks for much more memory than any input needs fail."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:  # a system without /proc has no limit; its peak is looked at all the same
        return
    most = pages * resource.getpagesize() + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def where(error: BaseException) -> str:
    """The line of the project that an exception came from."""
    lines = [f for f in traceback.extract_tb(error.__traceback__) if str(REPOSITORY) in f.filename]
    ours = [f for f in lines if "/tests/" not in f.filename] or lines
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""


def main(name: str, seed: int, first: int, last: int, step: int) -> None:
    """Feed the inputs first, first + step, … below last."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    target = TARGETS[name]
    target.make(seed, first)
    limit_memory()
    base_mb = peak_mb()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, last, step):
            item = target.make(seed, number)
            print(json.dumps({"begin": number, "name": item.name, "bytes": len(item.content)}), flush=True)
            begun, why = time.perf_counter(), ""
            try:
                outcome = target.feed(item, Path(folder))
            except Exception as error:  # that is what is looked for
                outcome, why = "escaped", f"{type(error).__name__} in {where(error)}: {error}"[:400]
            seconds = time.perf_counter() - begun
            told = {"end": number, "outcome": outcome, "why": why, "s": seconds, "peak": peak_mb(), "base": base_mb}
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:6]))
