"""One piece of combining in a process of its own, for `combine.py`: so that its memory is its own.

Asked on stdin, as JSON; answers with one line of JSON: seconds of the clock and of the processors (best of the
rounds), and peak memory [MB]. Every round writes its file where none stands, as a first run does: where one is
replaced, a file system such as ext4 begins to write out the new one there and then, lest a crash leave neither.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

HEADER_BYTES = 2880


def product(asked: dict[str, Any]) -> Callable[[], object]:
    """The job of step 3: clipped mean, error, bits, counts, chi² and scatter of the darks of a cell, bias taken off."""
    from steps.step3_group_darks_by_temp_exp import combine_darks

    names = [Path(f).name for f in asked["files"]]
    given = {
        "cell": "cell", "files": names, "hdus": [0] * len(names), "offset_adu": asked["offsets"],
        "shape": asked["shape"], "pedestal_adu": 0.0, "configuration": "", "camera": "camera", "exposure_s": 60.0,
        "temperature_c": -10.0, "temperature_sigma_c": 0.05, "temperature_source": "measured", "measured_c": None,
        "set_point_c": None, "bias": "bias", "noise_map": True, "kappa": 4.5, "relative_error": 0.01,
    }  # fmt: skip
    inputs = tuple(Path(asked[name]) for name in ("reference", "noise", "bias")) + tuple(map(Path, asked["files"]))
    return lambda: combine_darks(inputs, (Path(asked["out"]),), **given)


def read_and_convert(asked: dict[str, Any]) -> Callable[[], object]:
    """Part of the floor: read every file once and turn its pixels into float32, in memory that is used again."""
    from darkpipe.science.jit import kernel

    rows, cols = asked["shape"]
    step = 1 << 17
    buffer, numbers = np.empty(step, np.uint16), np.empty(step, np.float32)

    @kernel
    def convert(stored: np.ndarray, out: np.ndarray) -> None:
        for i in range(out.size):
            word = stored[i]
            turned = np.uint16(word << np.uint16(8)) | np.uint16(word >> np.uint16(8))
            out[i] = np.float32(np.uint16(turned ^ np.uint16(0x8000)))

    def run() -> None:
        for file in asked["files"]:
            with open(file, "rb", buffering=0) as stream:
                stream.seek(HEADER_BYTES)
                for first in range(0, rows * cols, step):
                    count = min(step, rows * cols - first)
                    stream.readinto(buffer[:count].view(np.uint8).data)
                    convert(buffer, numbers[:count])

    return run


def write_bytes(asked: dict[str, Any]) -> Callable[[], object]:
    """The other part: as many bytes as the product has, into a file that is then renamed."""
    piece = bytes(1 << 18)

    def run() -> None:
        draft = asked["out"] + ".draft"
        with open(draft, "wb", buffering=0) as stream:
            for first in range(0, asked["bytes"], len(piece)):
                stream.write(piece[: min(len(piece), asked["bytes"] - first)])
        os.replace(draft, asked["out"])

    return run


def digest(asked: dict[str, Any]) -> Callable[[], object]:
    """First-time hashing of the product, which is counted apart."""
    from darkpipe.files.atomic import file_digest

    return lambda: file_digest(Path(asked["out"]))


def by_ccdproc(asked: dict[str, Any]) -> Callable[[], object]:
    """Average after sigma clipping with median and MAD, as its users are told to."""
    import ccdproc
    from astropy.stats import mad_std

    return lambda: ccdproc.combine(
        asked["files"], output_file=asked["out"], overwrite_output=True, unit="adu", method="average",
        sigma_clip=True, sigma_clip_low_thresh=4, sigma_clip_high_thresh=4, sigma_clip_func=np.ma.median,
        sigma_clip_dev_func=mad_std, mem_limit=2e9, dtype=np.float32,
    )  # fmt: skip


WORKS = {f.__name__: f for f in (product, read_and_convert, write_bytes, digest, by_ccdproc)}


def peak_mb() -> float:
    """Most memory that this process held."""
    status = Path("/proc/self/status")
    if status.is_file():  # what getrusage tells begins with the memory of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Run what was asked."""
    warnings.simplefilter("ignore")
    asked = json.load(sys.stdin)
    work = WORKS[asked["work"]](asked)
    made = Path(asked["out"]) if asked["work"] != "digest" else None
    if asked.get("warm", True):
        work()
    wall, cpu = [], []
    for _ in range(asked.get("rounds", 3)):
        if made is not None:
            made.unlink(missing_ok=True)
        start, used = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    print(json.dumps({"seconds": min(wall), "cpu_seconds": min(cpu), "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
