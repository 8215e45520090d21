"""Memory that is used again belongs to one thread, and large arrays are not held."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from darkpipe.files.thread_memory import ThreadMemory


def test_a_thread_gets_its_own_memory_again() -> None:
    memory = ThreadMemory()
    first = memory.plane("a", (3, 5), np.float32)
    assert first.shape == (3, 5)
    assert first.dtype == np.float32
    assert np.shares_memory(first, memory.plane("a", (7,), np.uint16))
    assert not np.shares_memory(first, memory.plane("b", (3, 5), np.float32))
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(memory.plane, "a", (3, 5), np.float32).result()
    assert not np.shares_memory(first, other)
    grown = memory.plane("a", (100,), np.float32)
    assert not np.shares_memory(first, grown)
    assert np.shares_memory(grown, memory.plane("a", (3, 5), np.float32))


def test_very_large_arrays_are_not_held() -> None:
    memory = ThreadMemory()
    first = memory.array("a", 50 << 20)
    assert not np.shares_memory(first, memory.array("a", 50 << 20))
