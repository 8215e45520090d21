"""astropy when it is needed and without its warnings, safely among threads."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from darkpipe.deferred import IMPORTING

_LOCK = threading.Lock()  # warnings.catch_warnings changes what all threads see


def late_fits() -> Any:
    """astropy's reader of FITS files, which takes its time to import."""
    with IMPORTING:
        from astropy.io import fits
    return fits


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Odd files make astropy warn; what matters of that is said by the reader. One thread at a time."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
