"""A frame of 26 megapixels from the server to a FITS file on the disk, beside peers in the same run.

Ours: exposure, ImageReady, download over ImageBytes, turned upright, checked, FITS with checksums, digest of the file,
fsync of file and folder. The exposure itself and the calls around it are not counted: from the download on, as the
peers. The peers: the same bytes by ``requests.get`` (and by ``http.client``) and one write, and the image by the client
library (alpyca) with astropy's ``writeto``. All of them fsync their file. Target: at most 1.5 times ``requests.get``
and a write.
"""

from __future__ import annotations

import argparse
import gc
import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import requests
from alpaca.camera import Camera as ClientCamera
from astropy.io import fits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import REPOSITORY, Verdict, print_verdicts
from hardware.alpaca.driver import AlpacaCamera
from hardware.alpaca.image import download
from hardware.camera import Exposure
from hardware.frames.frame_file import FrameTemperatures, verify_frame, write_dark
from hardware.planning.slots import Slot
from hardware.settings import CameraSettings

ROWS, COLS = 4176, 6248
RATIO = 1.5
FRAME_ID = "transfer"
IMAGE = "/api/v1/camera/0/imagearray?ClientID=1&ClientTransactionID=1"
Way = Callable[[Path], None]


def serve(rows: int, cols: int) -> tuple[subprocess.Popen[str], str]:
    """The simulator in a process of its own, and its address."""
    command = [sys.executable, "-m", "hardware.simulator", "--port", "0", "--no-discovery", "--no-cooler"]
    flags = ["--rows", str(rows), "--cols", str(cols), "--time-scale", "100"]
    process = subprocess.Popen([*command, *flags], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().partition(" listens at ")[2].partition(": camera")[0]
    if not address:
        raise RuntimeError("the simulator did not start")
    return process, address


def ours(camera: AlpacaCamera, address: str, path: Path) -> None:
    """As in an acquisition, from the moment at which the image is ready."""
    pixels = download(address, 0, camera.info.shape, deadline_s=60.0, where=address)
    now = datetime.now(UTC)
    write_dark(
        path,
        Exposure(pixels, 1.0, now, now, 0.0),
        info=camera.info,
        slot=Slot("dark", 1.0, None, 1),
        frame_id=FRAME_ID,
        session="transfer",
        temperatures=FrameTemperatures(20.0, 20.0, 20.0),
    )


def by_requests(address: str, path: Path) -> None:
    """The bytes as they come, in one write."""
    answer = requests.get(f"http://{address}{IMAGE}", headers={"Accept": "application/imagebytes"}, timeout=60)
    answer.raise_for_status()
    with open(path, "wb") as stream:
        stream.write(answer.content)
        os.fsync(stream.fileno())


def by_http_client(address: str, path: Path) -> None:
    """The same with the standard library alone, which copies less."""
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", IMAGE, headers={"Accept": "application/imagebytes"})
    content = connection.getresponse().read()
    connection.close()
    with open(path, "wb") as stream:
        stream.write(content)
        os.fsync(stream.fileno())


def by_client_library(camera: ClientCamera, path: Path) -> None:
    """alpyca's ImageArray (lists in lists, by columns), astropy's FITS without checksums."""
    pixels = np.array(camera.ImageArray, np.uint16).T
    with open(path, "wb") as stream:
        fits.PrimaryHDU(pixels).writeto(stream)
        os.fsync(stream.fileno())


def measured(ways: dict[str, Way], folder: Path, repetitions: int) -> dict[str, list[float]]:
    """Seconds of each way, each time; the order is turned round every time."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():  # warm
        way(folder / "warm")
    for repetition in range(repetitions):
        for name in list(ways)[:: 1 if repetition % 2 else -1]:
            path = folder / f"{name}_{repetition}"
            os.sync()  # what others left to be written must not be waited for here
            gc.collect()
            start = time.perf_counter()
            ways[name](path)
            seconds[name].append(time.perf_counter() - start)
            path.unlink()
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--cols", type=int, default=COLS)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="on the disk that is meant; default: for temporary files")
    options = parser.parse_args(arguments)
    process, address = serve(options.rows, options.cols)
    try:
        camera = AlpacaCamera.connect(CameraSettings(address=address, readout_timeout_s=60.0))
        camera.expose_dark(1.0)  # its image stays there to be downloaded
        client = ClientCamera(address, 0)
        with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
            folder = Path(temporary)
            ways: dict[str, Way] = {
                "ours": lambda path: ours(camera, address, path),
                "requests": lambda path: by_requests(address, path),
                "http.client": lambda path: by_http_client(address, path),
                "alpyca": lambda path: by_client_library(client, path),
            }
            seconds = measured(ways, folder, options.repetitions)
            ours(camera, address, folder / "kept")
            wrong = verify_frame(folder / "kept", FRAME_ID)
        camera.close()
    finally:
        process.terminate()
        process.wait(10)
    return 0 if print_verdicts(f"{options.cols} x {options.rows} pixels, uint16", verdicts(seconds, wrong)) else 1


def verdicts(seconds: dict[str, list[float]], wrong: str | None) -> list[Verdict]:
    """Medians, and ratios within a repetition."""
    names = {
        "ours": "ours: download, checks, FITS with checksums, digest",
        "requests": "requests.get and one write",
        "http.client": "http.client and one write",
        "alpyca": "alpyca ImageArray and astropy writeto",
    }
    found = [
        Verdict(names[name], f"{statistics.median(times):.3f} s", f"{min(times):.3f} to {max(times):.3f} s")
        for name, times in seconds.items()
    ]
    for peer, limit in (("requests", RATIO), ("http.client", None), ("alpyca", None)):
        ratio = statistics.median(a / b for a, b in zip(seconds["ours"], seconds[peer], strict=True))
        target = "" if limit is None else f"<= {limit:g}"
        found.append(Verdict(f"ours / {peer}", f"{ratio:.2f}", target, None if limit is None else ratio <= limit))
    found.append(Verdict("the file verifies", str(wrong is None), "True", wrong is None))
    return found


if __name__ == "__main__":
    sys.exit(main())
