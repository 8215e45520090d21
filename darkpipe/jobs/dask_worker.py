"""What runs in the workers of a Dask cluster: a job under its run's name, and what is asked of a worker beforehand.

Nothing here imports Dask: functions are sent to the workers by name.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

import xxhash

from darkpipe.errors import PipelineError
from darkpipe.jobs.stamps import sync
from darkpipe.version import __version__

PACKAGES = ("numpy", "scipy", "astropy", "numba", "matplotlib", "pillow")
"""Packages that have a say in the bytes of a product."""

LOOK_AGAIN_S = 0.2

Facts = Mapping[str, str]
"""What must be the same at both ends: versions by name."""


@dataclass(frozen=True)
class Ticket:
    """A job as a worker knows it.

    run : which run of the pipeline; root : its output directory; number : of the job in the run. facts : what the
    controller is made of. outputs : files to be brought to the disk where they were written; none with a local cluster.
    """

    run: str
    root: str
    number: int
    name: str
    facts: Facts
    outputs: tuple[str, ...] = ()


_lock = threading.Lock()
_running: dict[tuple[str, int], Ticket] = {}
_over: set[str] = set()


class RunOverError(Exception):
    """A job of a run that has ended was about to begin."""


def run_job(ticket: Ticket, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call the function, unless its run has ended.

    Raises
    ------
    PipelineError
        of the job; or if this worker is not made of the same versions as the controller.
    """
    refuse_other(ticket.facts, facts())
    with _registered(ticket):
        result = function(*args)
        if ticket.outputs:
            sync(ticket.outputs)
        return result


@contextlib.contextmanager
def _registered(ticket: Ticket) -> Iterator[None]:
    key = ticket.run, ticket.number
    with _lock:
        if ticket.run in _over:
            raise RunOverError(ticket.name)
        _running[key] = ticket
    try:
        yield
    finally:
        with _lock:
            _running.pop(key, None)


def end_run(run: str) -> list[int]:
    """From now on no job of this run begins here; returns the numbers of those that run."""
    with _lock:
        _over.add(run)
        return [number for name, number in _running if name == run]


def running_in(root: str) -> list[str]:
    """Names of the jobs that run here for an output directory (or one around or in it), of whichever run."""
    with _lock:
        return [ticket.name for ticket in _running.values() if _inside(ticket.root, root) or _inside(root, ticket.root)]


def _inside(folder: str, other: str) -> bool:
    return folder == other or folder.startswith(other.rstrip(os.sep) + os.sep)


@cache
def facts() -> Facts:
    """Versions of what makes the products, as this process has them."""
    major, minor, *_ = platform.python_version_tuple()
    found = {"python": f"{major}.{minor}", "darkpipe": f"{__version__} ({_source_digest()})"}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "none"
    return found


@cache
def processor() -> str:
    """What numba compiles for here."""
    from llvmlite.binding import get_host_cpu_name

    return os.environ.get("NUMBA_CPU_NAME") or str(get_host_cpu_name())


def refuse_other(expected: Facts, found: Facts) -> None:
    """Refuse to work with other versions: products would depend on who made them.

    Raises
    ------
    PipelineError
        naming this computer, each package, and both versions.
    """
    other = [f"{name} {found.get(name, 'none')}, not {value}" for name, value in expected.items()]
    other = [text for text, name in zip(other, expected, strict=True) if found.get(name) != expected[name]]
    if other:
        raise PipelineError(
            f"a Dask worker has other versions than the run: {'; '.join(other)}",
            where=f"{socket.gethostname()}, process {os.getpid()}",
            do="Install the same versions there, and start the workers again",
        )


def _source_digest() -> str:
    digest = xxhash.xxh3_64()
    for package in ("darkpipe", "steps"):
        spec = util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            for path in sorted(Path(folder).rglob("*.py")):
                digest.update(path.relative_to(folder).as_posix().encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def sees(folder: str, name: str, content: str, *, patience_s: float) -> str:
    """Why this worker does not share a folder with the run that wrote the file `name` there; '' if it does.

    A network file system may take a while to show a new file.
    """
    path, until = Path(folder) / name, time.monotonic() + patience_s
    while True:
        try:
            with os.scandir(folder):  # asks the server again
                pass
            if path.read_text(encoding="utf-8") == content:
                break
            why = "a file of the run reads otherwise there"
        except OSError as error:
            why = error.strerror or str(error)
        if time.monotonic() > until:
            return why
        time.sleep(LOOK_AGAIN_S)
    own = Path(folder) / name.replace(".dask", f".dask-{socket.gethostname()}-{os.getpid()}")
    moved = own.with_name(own.name.replace(".dask", ".dask-moved"))
    try:
        own.write_text(content, encoding="utf-8")
        os.replace(own, moved)
        moved.unlink()
    except OSError as error:
        return f"it cannot write there: {error.strerror or error}"
    return ""


def dask_setup(_: object) -> None:
    """Called by a worker of the local cluster as it starts: Ctrl-C is for the controller alone."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
