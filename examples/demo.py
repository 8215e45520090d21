#!/usr/bin/env python3
"""The whole job without a camera: a simulated one is started, darks are acquired from it over ASCOM Alpaca, modelled,
and the model is compared with what the simulated sensor really does. Everything is stopped at the end.

    python examples/demo.py FOLDER
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from darkpipe.home import provide_home  # noqa: E402

provide_home()  # before astropy is imported

import numpy as np  # noqa: E402

from darkpipe.files.layout import OutputDir, cell_name  # noqa: E402
from darkpipe.files.products import read_planes  # noqa: E402
from darkpipe.science.flags import DQ  # noqa: E402
from hardware.simulator.sensor import Sensor, SensorSpec  # noqa: E402

SIZE, SEED, TIME_SCALE = 512, 7, 600
ASKED_C, ASKED_S = (-12.0, -7.5, -2.0), (20.0, 45.0, 90.0)  # between the cells of the campaign


@contextlib.contextmanager
def simulated_camera() -> Iterator[str]:
    """The address of a simulated camera that runs as a program of its own."""
    flags = ["--port", "0", "--rows", str(SIZE), "--cols", str(SIZE), "--seed", str(SEED), "--no-discovery"]
    command = [sys.executable, "-m", "hardware.simulator", *flags, "--time-scale", str(TIME_SCALE)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            address = re.search(r"\S+:\d+", line)
            if address is None:
                raise SystemExit(f"the simulated camera did not start: {line}")
            print(line.strip(), flush=True)
            yield address.group().rstrip(":")
        finally:
            process.terminate()


def pipeline(*flags: str) -> None:
    """Run the command line, and stop if it fails."""
    command = [sys.executable, str(PROJECT / "run_pipeline.py"), *flags]
    print("$ python run_pipeline.py", shlex.join(flags), flush=True)
    if code := subprocess.run(command, check=False).returncode:
        raise SystemExit(code)


def compared(path: Path, sensor: Sensor, temperature_c: float, exposure_s: float) -> str:
    """A row: a synthetic dark against the truth that the simulated sensor was made from."""
    model, error, dq = read_planes(path, ["SCI", "ERR", "DQ"])
    truth = sensor.expected_dark_adu(exposure_s, temperature_c)
    good = np.isfinite(model) & ((dq & int(DQ.UNSTABLE | DQ.SATURATED)) == 0)
    off = model[good] - truth[good]
    pull = off / error[good]
    spread = 1.4826 * np.median(np.abs(pull - np.median(pull)))
    return (
        f"{temperature_c:8.1f} {exposure_s:10g} {np.median(truth):14.2f} {np.median(model[good]):14.2f}"
        f" {np.mean(np.abs(off)):16.3f} {np.median(error[good]):14.3f} {spread:14.2f}"
    )


def main() -> int:
    """Run the demo; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("folder", type=Path, help="where everything goes")
    folder = Path(os.path.abspath(parser.parse_args().folder))
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "demo.yaml"
    shutil.copy(PROJECT / "examples" / "demo.yaml", settings)
    with simulated_camera() as address:
        pipeline("--mode", "full", "--config", str(settings), "--camera_address", address)
    sensor = Sensor(SensorSpec(rows=SIZE, cols=SIZE, seed=SEED))
    grid = [flag for name, asked in (("temps", ASKED_C), ("exptimes", ASKED_S))
            for flag in (f"--{name}", " ".join(map(str, asked)))]  # fmt: skip
    pipeline("--mode", "synthetic_2d", "--output_dir", str(folder / "out"), *grid, "--quiet")
    made = OutputDir(folder / "out", "")
    rows = [
        compared(made.synthetic(cell_name(temperature_c, exposure_s)), sensor, temperature_c, exposure_s)
        for temperature_c in ASKED_C
        for exposure_s in ASKED_S
    ]
    print("\nDarks that were never taken, made by the model, against the simulated sensor's own truth [ADU]:")
    print("      °C          s   median truth   median model   mean abs. error   median 1 σ    error / 1 σ")
    print("\n".join(rows))
    print(f"\nResults: {folder / 'out'} (evaluation/report.html, dark_model/, synthetic/)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
