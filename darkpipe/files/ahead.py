"""Reading, computing and writing of strips at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made in a thread of its own while the one before is used: one is ahead, never more.

    An exception of `items` is raised where its item would have come.
    """
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as worker:
        coming = worker.submit(next, items, end)
        while True:
            item = coming.result()
            if item is end:
                return
            coming = worker.submit(next, items, end)
            yield item  # type: ignore[misc]
