"""Pictures that are drawn in processes of their own, beside the threads of a run.

To draw is Python code, which one thread at a time may run: one picture waits for the other, and the sums for both.
These processes import what draws and nothing else. They are no workers of `multiprocessing`, which would run the
user's own script once more in each.
"""

from __future__ import annotations

import importlib
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import IO, Any

from darkpipe.errors import PipelineError

START = "import sys; sys.path[:] = sys.argv[1:]; from darkpipe.report.painters import serve; serve()"
MOST = 4  # processes: a picture takes a fraction of the time of the sums that it shows


@contextmanager
def painting(processes: int) -> Iterator[None]:
    """Until the end of this, `png` draws in up to so many processes (0: in this one), which start when a picture is
    due, and are shared by all who ask for them at the same time."""
    global _users, _team
    with _lock:
        _users += 1
        if _team is None and processes > 0 and sys.executable:
            _team = _Team(min(processes, MOST))
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            ended, _team = (None, _team) if _users else (_team, None)
        if ended is not None:
            ended.close()


def coming() -> None:
    """Say that a picture will be due soon: what draws it begins to start."""
    if (team := _team) is not None:
        team.begin()


def png(draw: Callable[..., Any], *args: Any, dpi: int | None = None, **options: Any) -> bytes:
    """The PNG of a figure.

    Parameters
    ----------
    draw : gives the figure: a function of `darkpipe.report.drawing`. args, options : of it, small and plain: they are
        sent to another process. dpi : of the figure; None: its own.

    Raises
    ------
    PipelineError
        when the process that draws was killed.
    """
    what = draw.__module__, draw.__name__, args, options, dpi
    return _drawn(*what) if (team := _team) is None else team.draw(what)


def _drawn(module: str, name: str, args: tuple[Any, ...], options: dict[str, Any], dpi: int | None) -> bytes:
    from darkpipe.report.drawing import save_png

    figure = getattr(importlib.import_module(module), name)(*args, **options)
    if dpi is not None:
        figure.set_dpi(dpi)
    out = BytesIO()
    save_png(figure, out)
    return out.getvalue()


_lock = threading.Lock()
_users = 0
_team: _Team | None = None


class _Team:
    """Up to so many painters, each with one picture at a time."""

    def __init__(self, most: int) -> None:
        self._free: queue.LifoQueue[_Painter] = queue.LifoQueue()
        self._all = [_Painter() for _ in range(most)]
        for painter in reversed(self._all):
            self._free.put(painter)

    def begin(self) -> None:
        self._all[0].start()

    def draw(self, what: tuple[Any, ...]) -> bytes:
        painter = self._free.get()
        try:
            done, answer = painter.draw(what)
        finally:
            self._free.put(painter)
        if done:
            return answer  # type: ignore[no-any-return]
        raise answer

    def close(self) -> None:
        for painter in self._all:
            painter.close()


class _Painter:
    """A process that draws; started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._process is None:
                warned = [f"-W{option}" for option in sys.warnoptions]
                command = [sys.executable, *warned, "-c", START, *sys.path]
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            return self._process

    def draw(self, what: tuple[Any, ...]) -> tuple[bool, Any]:
        process = self.start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, what)
            answer: tuple[bool, Any] = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            what_ = "a process that draws pictures died (out of memory?)"
            raise PipelineError(what_, do="Try fewer --workers") from error
        return answer

    def close(self) -> None:
        if self._process is not None:
            with suppress(OSError):
                self._process.communicate()


def _send(stream: IO[bytes], data: Any) -> None:
    pickle.dump(data, stream, pickle.HIGHEST_PROTOCOL)
    stream.flush()


def serve() -> None:
    """Draw what is asked for on the standard input until that ends, as it does when the asking process dies. Ctrl-C is
    for that process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing but answers goes there
    importlib.import_module("darkpipe.report.figures")
    while True:
        try:
            what = pickle.load(asked)
        except EOFError:
            return
        try:
            answer: tuple[bool, Any] = True, _drawn(*what)
        except Exception as error:
            answer = False, error
        with suppress(BrokenPipeError):
            _send(answers, answer)
