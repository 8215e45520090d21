"""`make demo` and a part of `make test` on what stands for a new machine: a fresh clone, an empty environment, nothing
but Python and the network of packages; and the same made awkward.

    python benchmarks/new_machine.py --quick           what is awkward together, three variants
    python benchmarks/new_machine.py --full            each by itself, and every Python that is given
    python benchmarks/new_machine.py --full --python /usr/bin/python3.11 --python python3.13

Each variant is a clone of what is committed, with an environment, a home and compiled code of its own, so a demo takes
minutes. What another user does is left out where the script does not run as root. Exit code 1 if a variant fails.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
NOBODY = 65534
FAST_TESTS = "tests/test_settings.py tests/test_printable.py tests/files tests/jobs"
KEPT = ("PATH", "SSL_", "PIP_", "REQUESTS_CA", "CURL_CA", "http", "HTTP", "no_proxy", "NO_PROXY")
LIMIT_S = 1800
OWN, LOOKED_AT, CLOSED = 0o755, 0o555, 0o000  # modes of a home


@dataclass(frozen=True)
class Variant:
    """One kind of machine.

    folder : name of the place that the clone is put into. read_only : nobody may write into the clone. home : what its
    modes let the user do there: all, only look, not even that. other_user : run by another user than the one who
    installed. variables : of the environment besides PATH and what pip needs. tests : run a part of the tests as well.
    """

    name: str
    python: str
    folder: str = "plain"
    read_only: bool = False
    home: int = OWN
    other_user: bool = False
    variables: dict[str, str] = field(default_factory=dict)
    tests: bool = False

    @property
    def needs_another(self) -> bool:
        """Whether it is only tried by a user who is not root."""
        return self.read_only or self.other_user or self.home != OWN


C_LANGUAGE = {"LANG": "C", "LC_ALL": "C"}
NO_UTF8 = {**C_LANGUAGE, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}  # then venv fails in an odd path
ODD_PATH = "Sternwarte Höhe 相機 & co's"


def quick(pythons: Sequence[str]) -> Iterator[Variant]:
    """Everything awkward that goes together."""
    yield Variant("fresh clone", pythons[-1], tests=True)
    python = for_everybody(pythons)
    yield Variant("odd path, LANG=C, closed home", python, ODD_PATH, home=CLOSED, variables=C_LANGUAGE)
    if can_change_user():
        yield Variant("read-only, another user", python, read_only=True, other_user=True)


def full(pythons: Sequence[str]) -> Iterator[Variant]:
    """One at a time."""
    for python in pythons:
        yield Variant("fresh clone", python, tests=True)
    yield Variant("path with blanks and letters", pythons[0], ODD_PATH)
    yield Variant("LANG=C", pythons[0], variables=C_LANGUAGE)
    yield Variant("LANG=C without UTF-8", pythons[0], variables=NO_UTF8)
    python = for_everybody(pythons)
    yield Variant("home cannot be written", python, home=LOOKED_AT)
    yield Variant("home may not be entered", python, home=CLOSED)
    if can_change_user():
        yield Variant("read-only checkout", python, read_only=True)
        yield Variant("another user", python, other_user=True)
    else:
        print("left out, they need root: read-only checkout, another user", flush=True)


def can_change_user() -> bool:
    """Whether programs can be run as somebody else."""
    return hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("setpriv") is not None


def for_everybody(pythons: Sequence[str]) -> str:
    """The first interpreter that another user can run: one in the home of root is for root alone."""
    for python in (*pythons, "/usr/bin/python3"):
        # `env` starts it, since what setpriv itself starts may still have the rights of root to find it
        tried = [*as_user(NOBODY), "env", python, "-c", ""]
        if not can_change_user() or subprocess.run(tried, check=False).returncode == 0:
            return python
    return pythons[0]


def as_user(user: int) -> list[str]:
    """The beginning of a command that somebody else runs."""
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


class Machine:
    """The folder of a variant, and what is run in it."""

    def __init__(self, variant: Variant, root: Path) -> None:
        self.variant = variant
        self.checkout, self.own = root / variant.folder / "checkout", root / "own"
        home = self.own / "home"
        home.mkdir(parents=True)
        self.checkout.parent.mkdir(exist_ok=True)
        # to root nothing is read-only: then all is done by somebody who is not root
        self.user = NOBODY if can_change_user() and variant.needs_another else None
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", PROJECT, self.checkout], check=True)
        if self.user is not None:
            places = [self.own] if variant.read_only or variant.other_user else [self.own, self.checkout]
            subprocess.run(["chown", "-R", f"{self.user}:{self.user}", *places], check=True)
        if variant.home != OWN:
            home.chmod(variant.home)
            if self.user is not None:
                os.chown(home, 0, 0)
        self.environment = {k: v for k, v in os.environ.items() if k.startswith(KEPT)}
        self.environment |= {"HOME": str(home), **variant.variables}

    def make(self, *words: str, user: int | None = None) -> None:
        """Run make in the clone.

        Raises
        ------
        RuntimeError
            with the last lines, if it fails.
        """
        apart = self.variant.read_only or self.variant.other_user
        where = [f"VENV={self.own / 'venv'}", f"DEMO={self.own / 'demo'}"] if apart else []
        line = ["make", "--no-print-directory", f"PYTHON={self.variant.python}", *where, *words]
        if user is not None:
            line = [*as_user(user), *line]
        done = subprocess.run(
            line,
            cwd=self.checkout,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=LIMIT_S,
        )
        if done.returncode:
            raise RuntimeError(done.stdout.decode("utf-8", "replace")[-2000:])

    def run(self) -> None:
        """All of the variant."""
        if self.variant.other_user:
            self.make("install")
            self.make("demo", user=self.user)
        else:
            self.make("demo", user=self.user)
        if self.variant.tests:
            self.make("test", f"TESTS={FAST_TESTS}", user=self.user)
        demo = (self.own if self.variant.read_only or self.variant.other_user else self.checkout) / "demo"
        if not (demo / "out" / "evaluation" / "report.html").is_file():
            raise RuntimeError("the demo has made no report")


def version_of(python: str) -> str:
    """'3.11.7'; '' where there is none."""
    found = subprocess.run([python, "-c", "import platform; print(platform.python_version())"], capture_output=True,
                           text=True, check=False) if shutil.which(python) else None  # fmt: skip
    return "" if found is None else found.stdout.strip()


def main() -> int:
    """Run the variants, print a table; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--quick", action="store_true", help="what is awkward together, three variants")
    which.add_argument("--full", action="store_true", help="each by itself, and every Python")
    parser.add_argument("--python", action="append", default=[], help="interpreter; may be given several times")
    parser.add_argument("--only", default="", help="variants whose name holds this")
    given = parser.parse_args()
    pythons = [p for p in given.python or [sys.executable] if version_of(p)]
    failed, rows = False, []
    for variant in (quick if given.quick else full)(pythons):
        if given.only not in variant.name:
            continue
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="new-machine-", ignore_cleanup_errors=True) as folder:
            os.chmod(folder, 0o755)
            try:
                Machine(variant, Path(folder)).run()
                result = "ok"
            except (RuntimeError, subprocess.SubprocessError, OSError) as error:
                failed, result = True, "FAILED"
                print(f"{variant.name}:\n{error}", flush=True)
        did = "demo, tests" if variant.tests else "demo"
        rows.append(
            f"{variant.name:<32}{version_of(variant.python):<10}{did:<14}{time.monotonic() - begin:7.0f}  {result}"
        )
        print(rows[-1], flush=True)
    print(f"\n{'machine':<32}{'Python':<10}{'what':<14}{'seconds':>7}  result")
    print("\n".join(rows))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
