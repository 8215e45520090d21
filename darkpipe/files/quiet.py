"""astropy without its warnings, safely among threads."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator

_LOCK = threading.Lock()  # warnings.catch_warnings changes what all threads see


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Odd files make astropy warn; what matters of that is said by the reader. One thread at a time."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
