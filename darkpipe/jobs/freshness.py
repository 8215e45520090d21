"""Inputs as another computer of a shared file system sees them: some show for a while what was there before."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from typing import NamedTuple

from darkpipe.errors import PipelineError
from darkpipe.jobs.stamps import digest, stamp
from darkpipe.same_file import Stamp

LOOK_AGAIN_S = 0.2
READ_AFTER_S = 5.0  # some file systems never show the same time on two computers: then the content decides
PATIENCE_S = 65.0  # a client of NFS believes what it knows of a folder for a minute at most, unless told otherwise


class Content(NamedTuple):
    """A file as the controller knows it."""

    stamp: Stamp
    digest: str


Known = Mapping[str, Content]
"""Contents by path."""


def await_contents(known: Known, *, patience_s: float = PATIENCE_S, read_after_s: float = READ_AFTER_S) -> None:
    """Wait until these files are here what they are for the controller.

    Raises
    ------
    PipelineError
        if one is not by then.
    """
    began = time.monotonic()
    for path, content in known.items():
        read = False
        while (found := stamp(path)) != content.stamp:
            waited_s = time.monotonic() - began
            if found is not None and not read and waited_s >= min(read_after_s, patience_s):
                read = True
                if found.size == content.stamp.size and digest(path) == content.digest:
                    break
            if waited_s > patience_s:
                raise PipelineError(
                    "this computer does not see the file as it was made"
                    if found
                    else "this computer sees no such file",
                    where=path,
                    do="All workers need the same file system under the same paths; see the page on clusters",
                )
            time.sleep(LOOK_AGAIN_S)
            with contextlib.suppress(OSError), os.scandir(os.path.dirname(path)):  # asks the server again
                pass
