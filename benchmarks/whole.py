"""The whole job: ``full`` from raw frames to the report, the same again without work, and the start of the program.

The frames are simulated on disk (TMPDIR says where): 500 of 2048 x 2048 in 20 cells and 5 temperatures, 4.2 GB, with
6 GB of products; a quick run takes 100 of 256 x 256. Wall time is without waiting for the disk, which is measured
apart. The floor reads the bytes of all frames and writes as many as the products have. The peer is the classical way,
ccdproc and curve_fit, from a sample: one cell of frames, and some pixels.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import Run, pipeline_command, run_pipeline
from benchmarks.made_frames import Campaign, make_frames
from benchmarks.table import Line
from benchmarks.wall_time import curve_fit_s, grouped, masters_of

NO_FSYNC, NO_BYTECODE = "DARKPIPE_NO_FSYNC", "PYTHONDONTWRITEBYTECODE"
FULL_S, FULL_MB, FIGURES, AGAIN_S, START_S = 20.0, 1500.0, 0.5, 2.0, 0.5
NO_FIGURES = {"evaluate_model": {"pictures": False}, "report": {"write": False}}
CHUNK = 1 << 24
FULL_SIZE, QUICK_SIZE = Campaign(), Campaign(256, 256, frames=4, biases=4)


def lines(quick: bool) -> list[Line]:
    """Lines of the table of `benchmarks/run.py`."""
    with _environment(NO_BYTECODE, ""):  # what a shell may forbid, an installation has
        return _lines(quick)


def _lines(quick: bool) -> list[Line]:
    campaign = QUICK_SIZE if quick else FULL_SIZE
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with _environment(NO_FSYNC, "1"):
            full(make_frames(folder / "warm", Campaign(64, 64, frames=3, biases=3)), folder / "warmed")
        frames = make_frames(folder / "raw", campaign)
        found = [*_runs(frames, campaign, folder, quick)]
    return found + starts()


def full(frames: Path, out: Path, *more: object) -> Run:
    """One call of ``full``."""
    return run_pipeline("--mode", "full", "--basepath", frames, "--output_dir", out, *more)


def _runs(frames: Path, campaign: Campaign, folder: Path, quick: bool) -> Iterator[Line]:
    what = f"full, {campaign.files} frames of {campaign.rows}²"
    settings = folder / "settings.yaml"
    settings.write_text(yaml.safe_dump(NO_FIGURES))
    with _environment(NO_FSYNC, "1"):
        bare = full(frames, folder / "bare", "--config", settings)
        shutil.rmtree(folder / "bare")
        whole = full(frames, folder / "out")
        again = full(frames, folder / "out")
    floor_s = floor(frames, folder / "out", folder / "floor")
    shutil.rmtree(folder / "out")
    safe = full(frames, folder / "safe")
    share = 1.0 - bare.seconds / whole.seconds
    reached = whole.seconds < FULL_S and whole.peak_mb < FULL_MB and share < FIGURES
    yield Line(
        what,
        whole.seconds,
        {} if quick else {"ccdproc + curve_fit": classic_s(frames)},
        floor_s,
        f"< {FULL_S:g} s, figures under half, < {FULL_MB / 1000:g} GB",
        None if quick else reached,
        f"{whole.cpu_seconds:.0f} CPU s, {whole.peak_mb:.0f} MB, figures {100 * share:.0f} %; "
        f"{safe.seconds:.1f} s where it waits for this disk (fsync)",
    )
    yield Line(f"the same again, unchanged: {campaign.files} frames", again.seconds, {}, None, f"< {AGAIN_S:g} s",
               None if quick else again.seconds < AGAIN_S, f"{again.peak_mb:.0f} MB")  # fmt: skip


def starts() -> list[Line]:
    """Help and settings, the best of five."""
    found = []
    for flag in ("--help", "--print_config"):
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([*pipeline_command(), flag], check=True, stdout=subprocess.DEVNULL)
            taken.append(time.perf_counter() - start)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        nothing = time.perf_counter() - start
        found.append(Line(f"`{flag}`", min(taken), {}, nothing, f"< {START_S:g} s", min(taken) < START_S))
    return found


def floor(frames: Path, products: Path, scratch: Path) -> float:
    """Seconds to read all frames, and to write as many bytes as there are products, to the page cache."""
    buffer = bytearray(CHUNK)
    start = time.perf_counter()
    for path in frames.iterdir():
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    taken = time.perf_counter() - start
    written = sum(path.stat().st_size for path in products.rglob("*") if path.is_file())
    start = time.perf_counter()
    with open(scratch, "wb", buffering=0) as file:
        for _ in range(0, written, CHUNK):
            file.write(buffer)
    taken += time.perf_counter() - start
    scratch.unlink()
    return taken


def classic_s(frames: Path, n_pixels: int = 300) -> float:
    """Seconds of ccdproc's clipped means and of curve_fit for every pixel, from one cell and some pixels."""
    import ccdproc
    from astropy.io import fits
    from astropy.nddata import CCDData

    groups = grouped(frames)
    names = next(paths for (kind, _, _), paths in groups.items() if kind == "dark")
    start = time.perf_counter()
    images = [CCDData(fits.getdata(path).astype(np.float32), unit="adu") for path in names]
    ccdproc.combine(images, method="average", sigma_clip=True, mem_limit=2e9)
    combined = (time.perf_counter() - start) * sum(map(len, groups.values())) / len(names)
    few = {key: paths[:2] for key, paths in groups.items()}
    return combined + curve_fit_s(masters_of(few), n_pixels)


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
