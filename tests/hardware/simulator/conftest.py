"""A raw client of the server that each module runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from raw_alpaca import RawCamera

from hardware.simulator.server import SimulatorServer


@pytest.fixture
def camera(server: SimulatorServer) -> Iterator[RawCamera]:
    """Freshly switched on, and connected."""
    server.restart()
    with RawCamera(server.address) as raw:
        raw.connect()
        yield raw
