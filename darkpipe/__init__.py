"""Dark frames for any temperature and exposure, with errors, from a campaign of darks."""

from darkpipe.version import __version__

__all__ = ["__version__"]
