"""Reading, computing and writing of strips at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def ahead(items: Iterator[B]) -> Iterator[B]:
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


def each_ahead(work: Callable[[A], B], items: Iterable[A], threads: int = 1) -> Iterator[B]:
    """What `work` gives for each item, in their order; as many as there are threads are worked on ahead of what is
    taken, no more, so that memory stays bounded."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[B]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
