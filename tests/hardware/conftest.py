"""A camera server, a bad line to it, and short deadlines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from alpaca_proxy import AlpacaProxy
from canned_alpaca import CannedAlpaca
from opened_cameras import OPENED

from hardware.alpaca import exposure as alpaca_exposure
from hardware.alpaca import http as alpaca_http
from hardware.alpaca import setup as alpaca_setup


@pytest.fixture
def server() -> Iterator[CannedAlpaca]:
    with CannedAlpaca() as server:
        yield server


@pytest.fixture
def proxy(server: CannedAlpaca) -> Iterator[AlpacaProxy]:
    with AlpacaProxy(server.address) as proxy:
        yield proxy


@pytest.fixture
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alpaca_http, "GET_S", 0.3)
    monkeypatch.setattr(alpaca_http, "PUT_S", 0.3)
    monkeypatch.setattr(alpaca_exposure, "ASK_AGAIN_S", 0.5)
    monkeypatch.setattr(alpaca_exposure, "GONE_S", 0.3)
    monkeypatch.setattr(alpaca_setup, "VERIFY_S", 0.2)


@pytest.fixture(autouse=True)
def all_are_closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()
