"""What a disk refuses, in our words."""

from __future__ import annotations

import errno
from pathlib import Path

from darkpipe.errors import ProductError
from hardware.errors import CaptureError, DiskSpaceError


def disk_error(error: OSError | ProductError, where: Path | str | None) -> CaptureError:
    """The error to raise instead: `DiskSpaceError` if the disk is full. A `ProductError` keeps what it says."""
    cause = error.__cause__ if isinstance(error, ProductError) else error
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskSpaceError("the disk is full", where=where, do="Make room, then run the same command again.")
    if isinstance(error, ProductError):
        return CaptureError(error.what, where=where, do=error.do)
    return CaptureError(
        f"cannot write: {error.strerror or error}", where=where, do="Check permissions and the disk, then run again."
    )
