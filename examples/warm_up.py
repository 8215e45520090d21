#!/usr/bin/env python3
"""Compile ahead of the first run what it would compile: a small simulated campaign goes through `full`, and one of its
frames through `calibrate`, in a folder that is removed again. For an image of a container, or before a night.

    python examples/warm_up.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from darkpipe.home import provide_home  # noqa: E402

provide_home()  # before astropy is imported

from astropy.io import fits  # noqa: E402

from darkpipe import simulate_campaign  # noqa: E402
from darkpipe.science.jit_folder import cache_folder  # noqa: E402


def write_frames(folder: Path) -> None:
    """A frame of the simulated campaign each."""
    made = simulate_campaign(96, 128)
    exposed = [("Dark Frame", *shot) for shot in zip(made.darks, made.temperatures_c, made.exposures_s, strict=True)]
    exposed += [("Bias Frame", d, t, 0.0) for d, t in zip(made.biases, made.bias_temperatures_c, strict=True)]
    for number, (kind, data, temperature_c, exposure_s) in enumerate(exposed):
        header = fits.Header({"IMAGETYP": kind, "EXPTIME": exposure_s, "EGAIN": made.gain_e_per_adu})
        header.update({"CCD-TEMP": temperature_c, "SET-TEMP": temperature_c, "INSTRUME": "simulated"})
        fits.PrimaryHDU(data, header).writeto(folder / f"{number:03d}.fits")


def pipeline(*flags: str) -> None:
    """Run the command line, and stop if it fails."""
    command = [sys.executable, str(PROJECT / "run_pipeline.py"), *flags]
    if code := subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
        raise SystemExit(code)


def main() -> int:
    """Compile; the exit code."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        frames, out, calibrated = (Path(temporary) / name for name in ("frames", "out", "calibrated"))
        frames.mkdir()
        write_frames(frames)
        pipeline("--mode", "full", "--basepath", str(frames), "--output_dir", str(out))
        lights = ("--basepath", str(frames), "--kinds", "dark", "--model_dir", str(out))
        pipeline("--mode", "calibrate", *lights, "--output_dir", str(calibrated), "--quiet")
    print(f"compiled in {time.monotonic() - start:.0f} s, kept in {cache_folder()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
