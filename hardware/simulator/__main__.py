"""`python -m hardware.simulator`: a camera to try things with, as a program of its own."""

from __future__ import annotations

import argparse
import functools
import logging
import math
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from hardware.errors import CameraError
from hardware.simulator.cooler import Cooler
from hardware.simulator.faults import FAULTS, parse_fault
from hardware.simulator.responder import DISCOVERY_PORT
from hardware.simulator.sensor import SensorSpec
from hardware.simulator.server import SimulatorServer

USUAL_PORT = 11111


def arguments() -> argparse.ArgumentParser:
    """The flags."""
    spec = SensorSpec()
    told = "\n".join(f"  {name}: {meaning} (counts each {kind})" for name, (kind, meaning) in FAULTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m hardware.simulator",
        description="An ASCOM Alpaca camera that is not there, at http://HOST:PORT.",
        epilog=f"faults, NAME[=FIRST][,times=N][,member=NAME][,value=X]:\n{told}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; this computer alone unless said")
    parser.add_argument("--port", type=int, default=USUAL_PORT, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=spec.rows, help="of the sensor (default: %(default)s)")
    parser.add_argument("--cols", type=int, default=spec.cols, help="of the sensor (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=spec.seed, help="of the sensor and its noise")
    parser.add_argument("--time-scale", type=float, default=1.0, help="how much faster the camera's clock runs")
    parser.add_argument("--ambient", type=finite, default=20.0, help="temperature around the camera [°C]")
    parser.add_argument("--no-cooler", action="store_true", help="a camera without a cooler")
    parser.add_argument("--color", action="store_true", help="a sensor with a colour filter array")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME", help="see below; may be repeated")
    parser.add_argument("--discovery-port", type=int, default=DISCOVERY_PORT, help="UDP (default: %(default)s)")
    parser.add_argument("--no-discovery", action="store_true", help="do not answer discovery")
    return parser


def start(given: argparse.Namespace) -> SimulatorServer:
    """The server that the flags ask for. Raises `CameraError`."""
    return SimulatorServer(
        SensorSpec(rows=given.rows, cols=given.cols, seed=given.seed, color=given.color),
        time_scale=given.time_scale,
        cooler=functools.partial(Cooler, ambient_c=given.ambient),
        has_cooler=not given.no_cooler,
        host=given.host,
        port=given.port,
        discovery_port=None if given.no_discovery else given.discovery_port,
        faults=[parse_fault(text) for text in given.fault],
    )


def finite(text: str) -> float:
    """A number, neither infinite nor none."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal; the exit code."""
    given = arguments().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, end)
    try:
        server = start(given)
    except CameraError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    with server:
        print(
            f"darkpipe simulator listens at {server.address}: camera 0, {given.cols} x {given.rows} pixels, "
            f"clock x {given.time_scale:g}. Ctrl-C ends it.",
            flush=True,
        )
        while not ended.wait(0.5):  # a wait without an end would not see Ctrl-C on Windows
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
