"""Items that are made ahead, in other threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from darkpipe.files.ahead import ahead, each_ahead


def test_items_come_in_order_and_from_another_thread() -> None:
    names = set()

    def items() -> Iterator[int]:
        for k in range(20):
            names.add(threading.current_thread().name)
            yield k

    assert list(ahead(items())) == list(range(20))
    assert list(ahead(iter([]))) == []
    assert threading.current_thread().name not in names


def test_it_is_one_ahead_and_no_more() -> None:
    made = []
    go_on = threading.Event()

    def items() -> Iterator[int]:
        for k in range(5):
            made.append(k)
            if k == 1:
                go_on.set()
            yield k

    following = ahead(items())
    assert next(following) == 0
    assert go_on.wait(10)
    assert made == [0, 1]
    assert list(following) == [1, 2, 3, 4]


def test_an_exception_comes_in_the_place_of_its_item() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("strip")

    following = ahead(items())
    assert next(following) == 1
    with pytest.raises(KeyError, match="strip"):
        next(following)


def test_who_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    following = ahead(iter(range(100)))
    next(following)
    following.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 3])
def test_work_ahead_keeps_order_and_bounds(threads: int) -> None:
    begun, taken, lock = [0], 0, threading.Lock()

    def work(item: int) -> int:
        with lock:
            begun[0] += 1
        return item * item

    for number, value in enumerate(each_ahead(work, range(20), threads)):
        assert value == number * number
        taken += 1
        assert begun[0] <= taken + threads
    assert taken == 20


def test_an_error_of_the_work_comes_through() -> None:
    def work(item: int) -> int:
        return 1 // item

    with pytest.raises(ZeroDivisionError):
        list(each_ahead(work, [1, 0, 1]))
