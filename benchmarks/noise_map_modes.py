"""The modes of an EM-CCD at full size, by the command line: time and peak memory.

``python benchmarks/noise_map_modes.py`` writes 49 stacks (7 EM gains x 7 exposures) of 30 frames of 1200 x 2200 pixels
with their masks, fits the noise maps, makes one traditional dark and one from the maps, and prints time and peak memory
of each command. So that this takes 1.6 GB of disk and not 23, each stack has two different frames, and the other files
are hard links to them: the pipeline reads and digests every one of the 1470 files in full, but from the cache of the
system, so the times are those without a disk. What the maps hold is not judged here: `noise_maps.py` does that.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import Run, Verdict, print_verdicts, run_pipeline
from darkpipe.science.regions import ROMAN_CORONAGRAPH

GAINS, EXPOSURES_S = np.linspace(2, 5000, 7), np.linspace(2, 100, 7)
DIFFERENT, READ_NOISE_E = 2, 100.0
MOST_GB = 4.0
DETECTOR = "load_em_frames: {detector: roman_coronagraph}\nworkers: 2\n"


def write_frames(folder: Path, frames: int) -> int:
    """All stacks, `frames` files each; returns their number."""
    rng = np.random.default_rng(1)
    shape = ROMAN_CORONAGRAPH.shape
    count = 0
    for g in GAINS:
        for t in EXPOSURES_S:
            inside = folder / f"g{g:g}_{t:g}s"
            inside.mkdir(parents=True)
            events = 0.02 + 8e-4 * t
            sigma = np.float32(np.sqrt(READ_NOISE_E**2 + 2 * g * g * events))
            for number in range(frames):
                path = inside / f"dark_{number:03d}.fits"
                count += 1
                if number >= DIFFERENT:
                    os.link(inside / f"dark_{number % DIFFERENT:03d}.fits", path)
                    continue
                image = fits.ImageHDU(np.float32(20 + g * events) + sigma * rng.standard_normal(shape, np.float32))
                image.header["EXPTIME"], image.header["EMGAIN_C"] = float(t), float(g)
                image.header["BUNIT"] = "detected EM electron"
                mask = fits.ImageHDU((rng.random(shape, np.float32) < 0.01).astype(np.uint16), name="DQ")
                fits.HDUList([fits.PrimaryHDU(), image, mask]).writeto(path)
    return count


def figures(what: str, run: Run) -> Verdict:
    """Time and memory of a command."""
    peak = run.peak_mb / 1024
    text = f"{run.seconds:.0f} s, CPU {run.cpu_seconds:.0f} s, peak {peak:.2f} GB"
    return Verdict(what, text, f"<= {MOST_GB:g} GB", peak <= MOST_GB)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where every command stayed within the memory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--frames", type=int, default=30, help="files a stack")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "camera.yaml").write_text(DETECTOR)
        count = write_frames(root / "frames", given.frames)
        common = ("--config", root / "camera.yaml", "--output_dir", root / "out", "--quiet")
        frames = ("--basepath", root / "frames")
        setting = ("--em_gain", GAINS[2], "--exptime_single", EXPOSURES_S[2])
        verdicts = [
            figures("fit_noise_maps", run_pipeline("--mode", "fit_noise_maps", *frames, *common)),
            figures("the same again, up to date", run_pipeline("--mode", "fit_noise_maps", *frames, *common)),
            figures(
                "traditional_dark, one setting", run_pipeline("--mode", "traditional_dark", *frames, *setting, *common)
            ),
            figures("synthetic_noise_map_dark", run_pipeline("--mode", "synthetic_noise_map_dark", *setting, *common)),
        ]
    rows, cols = ROMAN_CORONAGRAPH.shape
    title = f"{count} frames of {rows} x {cols} in {len(GAINS) * len(EXPOSURES_S)} stacks, by the command line"
    return 0 if print_verdicts(title, verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
