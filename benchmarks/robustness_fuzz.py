"""Fuzzing: what reads is fed with bytes that are changed again and again, guided by the lines of the project that they
reach where `atheris` is installed (`pip install atheris`), by chance where it is not; the note of each row says which.

    python benchmarks/robustness_fuzz.py "journal of jobs" 5000 /tmp/report.json
"""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from benchmarks.robustness_rows import Row  # noqa: E402

RUNS = {
    "header cards": 4000,
    "frames": 3000,
    "settings": 2000,
    "ImageBytes": 2000,
    "images in JSON": 2000,
    "journal of jobs": 1500,
    "journal of frames": 1500,
}
QUICK = 10
LONGEST_S = 300
LONGEST_INPUT = 1 << 15
KEPT = Path(tempfile.gettempdir()) / "darkpipe-fuzzed"  # inputs that broke the promise
SEEDS = 200  # sound and directed inputs that it begins with


def guided() -> bool:
    """Whether the fuzzer that looks at coverage is installed."""
    return importlib.util.find_spec("atheris") is not None


def fuzz_rows(full: bool) -> list[Row]:
    """A row for each that is fuzzed, in a process of its own."""
    return [_row(name, runs if full else runs // QUICK) for name, runs in RUNS.items()]


def _row(name: str, runs: int) -> Row:
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, str(Path(__file__).resolve()), name, str(runs), str(report)]
        late = False
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=2 * LONGEST_S,
                check=False,
            )
            said = done.stderr[-2000:] if done.returncode else ""
        except subprocess.TimeoutExpired:
            said, late = f"no end within {2 * LONGEST_S} s", True
        found = json.loads(report.read_text()) if report.exists() else {"counts": {}, "broken": {}}
    counts = found["counts"]
    broken = [f"{why} ({n} times)" for why, n in found["broken"].items()]
    broken += [f"the process died: {' '.join(said.split())[-300:]}"] if said else []
    how = "guided by coverage (atheris)" if guided() else "by chance: atheris is not installed"
    return Row(
        name=f"fuzz: {name}",
        tried=sum(counts.values()),
        good=counts.get("good", 0),
        refused=counts.get("refused", 0),
        broken=broken,
        seconds=time.monotonic() - begun_s,
        peak_mb=found.get("peak"),
        note=f"{how}; {found.get('features', '')}",
        errors=counts.get("error", 0),
        escaped=counts.get("escaped", 0),
        late=int(late),
    )


class Feeder:
    """Feeds one target with bytes and keeps count; its report is written again and again, since a fuzzer ends hard."""

    def __init__(self, name: str, runs: int, report: Path, folder: Path) -> None:
        from corpus.document import Input
        from corpus.targets import TARGETS

        from benchmarks.robustness_worker import peak_mb, where

        self._target, self._input, self._where, self._peak = TARGETS[name], Input, where, peak_mb
        self._runs, self._report, self._folder = runs, report, folder
        self._counts: dict[str, int] = {}
        self._broken: dict[str, int] = {}
        self._done = 0

    def feed(self, content: bytes) -> None:
        """One input."""
        try:
            outcome = self._target.feed(self._input("fuzzed", bytes(content)), self._folder)
        except Exception as error:  # that is what is looked for
            outcome = "escaped"
            why = f"{type(error).__name__} in {self._where(error)}: {error}"[:200]
            if why not in self._broken and len(self._broken) < 20:
                KEPT.mkdir(exist_ok=True)
                (KEPT / f"{self._target.name.replace(' ', '_')}_{len(self._broken)}.bin").write_bytes(bytes(content))
            self._broken[why] = self._broken.get(why, 0) + 1
        self._counts[outcome] = self._counts.get(outcome, 0) + 1
        self._done += 1
        if self._done % 50 == 0 or self._done >= self._runs:
            self.write()

    def write(self) -> None:
        """The report so far."""
        told = {"counts": self._counts, "broken": self._broken, "peak": self._peak()}
        self._report.write_text(json.dumps(told))


def seeds(name: str) -> list[bytes]:
    """What the changes begin with."""
    from corpus.targets import listed

    known = [item.content for item in listed(name) if len(item.content) <= LONGEST_INPUT]
    return known[:: max(1, len(known) // SEEDS)]


def fuzz(name: str, runs: int, report: Path) -> None:
    """Fuzz one target in this process, which ends with it."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if not guided():
            feeder = Feeder(name, runs, report, folder)
            _by_chance(seeds(name), runs, feeder.feed)
            feeder.write()
            return
        import atheris

        with atheris.instrument_imports(include=["darkpipe", "hardware"], exclude=compiled_modules()):
            feeder = Feeder(name, runs, report, folder)
            feeder.feed(seeds(name)[0])  # what is imported when it is needed
        corpus = folder / "seeds"
        corpus.mkdir()
        for number, content in enumerate(seeds(name)):
            (corpus / f"{number:04d}").write_bytes(content)
        options = [f"-runs={runs}", f"-max_total_time={LONGEST_S}", f"-max_len={LONGEST_INPUT}", "-timeout=60"]
        options += ["-rss_limit_mb=3072", "-seed=1", "-print_final_stats=1", "-verbosity=0"]
        atheris.Setup([sys.argv[0], *options, str(corpus)], feeder.feed)
        atheris.Fuzz()


def compiled_modules() -> list[str]:
    """What numba compiles: it cannot compile the calls that count lines."""
    files = (REPOSITORY / "darkpipe" / "science").rglob("*.py")
    return [".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in files]


def _by_chance(known: list[bytes], runs: int, feed: Callable[[bytes], Any]) -> None:
    from corpus.texts import spoiled

    rng = Random(1)
    for _ in range(runs):
        content = rng.choice(known)
        feed(spoiled(rng, content, (b"\0", b"\xff\xff", b"9", b"'", b"-1", rng.choice(known)[:64])))


if __name__ == "__main__":
    fuzz(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
