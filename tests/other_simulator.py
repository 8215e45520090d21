"""The Alpaca camera of the package alpaca-simulators, as a server in a process of its own.

It keeps its images under a key without a frame number, so that darks of one exposure are all alike; here it does not.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

COLS, ROWS = 96, 64


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Its address, 'host:port', while it runs."""
    environment = os.environ | {"ASTRA_SIMULATORS_CONFIG": "template.yaml"}  # one that is there: else it writes its own
    process = subprocess.Popen(
        [sys.executable, __file__], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    assert process.stdout is not None
    try:
        port = process.stdout.readline().decode().strip()
        if not port.isdecimal():
            raise RuntimeError(f"alpaca-simulators did not start: {port!r}, exit status {process.poll()}")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def main() -> None:
    import socket

    import uvicorn
    from alpaca_simulators.config import Config

    camera = Config("template.yaml").load()["devices"]["camera"][0]
    camera.update(cameraxsize=COLS, cameraysize=ROWS, numx=COLS, numy=ROWS)

    from alpaca_simulators.api import camera as module
    from alpaca_simulators.main import app

    module._cache_image = lambda key, image: None
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main()
