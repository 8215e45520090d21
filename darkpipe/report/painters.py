"""Pictures, and the page that shows them, made in processes of their own, beside the threads of a run.

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
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from darkpipe.errors import PipelineError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

START = "import sys; sys.path[:] = sys.argv[1:]; from darkpipe.report.painters import serve; serve()"
AT_FIRST, MOST = 2, 4  # processes: a picture takes a fraction of the time of the sums that it shows

_lock = threading.Lock()
_users = 0
_team: _Team | None = None


@contextmanager
def painting(workers: int, *, soon: bool = True) -> Iterator[None]:
    """Until the end of this, `png` draws in processes, one for two workers of a run but at least two, which start when
    a picture is due and are shared by all who ask for them at the same time. A single worker draws by itself.
    soon : whether they also start when one is said to be coming."""
    global _users, _team
    with _lock:
        _users += 1
        if _team is None and workers > 1:
            _team = _Team(min(max(workers // 2, AT_FIRST), MOST))
        if _team is not None:
            _team.soon |= soon
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            ended, _team = (None, _team) if _users else (_team, None)
        if ended is not None:
            ended.close()


def coming() -> None:
    """Say that a picture will be due soon, where a run draws any: what draws it begins to start."""
    if (team := _team) is not None and team.soon:
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
    drawn: bytes = _made(_Asked(draw.__module__, draw.__name__, args, options, True, dpi))
    return drawn


def written(write: Callable[..., str], *args: Any) -> str:
    """What a function of `darkpipe.report.drawing` writes, from plain arguments, by a process that draws; raises as
    `png`."""
    text: str = _made(_Asked(write.__module__, write.__name__, args, {}))
    return text


def _made(what: _Asked) -> Any:
    return what.done() if (team := _team) is None else team.do(what)


class _Asked(NamedTuple):
    """A call of a function, by its name: its module is imported where it is called. as_png: it gives a figure."""

    module: str
    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]
    as_png: bool = False
    dpi: int | None = None

    def done(self) -> Any:
        """What it gives, in this process."""
        made = getattr(importlib.import_module(self.module), self.name)(*self.args, **self.options)
        return _png(made, self.dpi) if self.as_png else made


def _png(figure: Figure, dpi: int | None) -> bytes:
    from darkpipe.report.drawing import save_png

    if dpi is not None:
        figure.set_dpi(dpi)
    out = BytesIO()
    save_png(figure, out)
    return out.getvalue()


class _Team:
    """Up to so many painters, each with one picture at a time; those that have begun come first."""

    def __init__(self, most: int) -> None:
        self.soon = False
        self._all = [_Painter() for _ in range(most)]
        self._free: queue.LifoQueue[_Painter] = queue.LifoQueue()
        for painter in reversed(self._all):
            self._free.put(painter)

    def begin(self) -> None:
        for painter in self._all[:AT_FIRST]:
            painter.begun()

    def do(self, what: _Asked) -> Any:
        painter = self._free.get()
        try:
            return painter.do(what)
        finally:
            self._free.put(painter)

    def close(self) -> None:
        for painter in self._all:
            painter.close()


class _Painter:
    """A process that draws and writes, started when it is first needed, and anew after it was killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def begun(self) -> subprocess.Popen[bytes] | None:
        """The process; None where the system lets none begin."""
        with self._lock:
            if self._process is None and sys.executable:
                warned = [f"-W{option}" for option in sys.warnoptions]
                command = [sys.executable, *warned, "-c", START, *sys.path]
                with suppress(OSError):
                    self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            return self._process

    def do(self, what: _Asked) -> Any:
        """What was asked for; done here where no process can begin. Raises what that raised, or that the process
        died."""
        process = self.begun()
        if process is None:
            return what.done()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, what)
            answer = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            self.close()
            raise PipelineError(
                "a process that draws pictures died (out of memory?)", where=what.name, do="Try fewer --workers"
            ) from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """End the process, once it has drawn what it was asked for."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            with suppress(OSError):
                process.communicate()


def _send(stream: BinaryIO | Any, data: Any) -> None:
    pickle.dump(data, stream, pickle.HIGHEST_PROTOCOL)
    stream.flush()


def serve() -> None:
    """Draw what is asked for on the standard input until that ends, as it does when the asking process dies. Ctrl-C is
    for that process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing but answers goes there
    for module in ("figures", "page"):
        importlib.import_module(f"darkpipe.report.{module}")
    with suppress(EOFError, BrokenPipeError):
        while True:
            _send(answers, _answer(pickle.load(asked)))


def _answer(what: _Asked) -> Any:
    """The picture or text, or why there is none, with where that happened: another process raises it."""
    try:
        return what.done()
    except Exception as error:
        error.add_note("in the process that draws:\n" + traceback.format_exc())
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return RuntimeError(traceback.format_exc())
        return error
