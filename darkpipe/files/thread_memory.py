"""Memory that a thread uses again and again: new memory has to be filled with zeros by the system, page by page."""

from __future__ import annotations

import threading
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST_HELD = 40 << 20  # bytes of each name and thread, as long as it lives


class ThreadMemory(threading.local):
    """Arrays of a thread by name, unless one is very large. What was asked for under a name before is overwritten."""

    def __init__(self) -> None:
        self._held: dict[str, NDArray[np.uint8]] = {}

    def array(self, name: str, size: int) -> NDArray[np.uint8]:
        """At least so many bytes, an even number of them."""
        size += size % 2
        if size > _LARGEST_HELD:
            return np.empty(size, np.uint8)
        if name not in self._held or self._held[name].size < size:
            self._held[name] = np.empty(size, np.uint8)
        held = self._held[name]
        return held[: held.size // 2 * 2]

    def plane(self, name: str, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
        """A plane of this shape and type."""
        size = prod(shape) * np.dtype(kind).itemsize
        plane: NDArray[Any] = self.array(name, size)[:size].view(kind).reshape(shape)
        return plane
