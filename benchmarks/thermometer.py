"""The hot-pixel thermometer and the fit of the dark's scale on light frames of a simulated camera, against the truth.

``python benchmarks/thermometer.py`` fits models to campaigns of three sensors (one of each law without any jitter of
the temperature, and one with jitter and a coarse thermometer), takes light frames with sky and stars at known
temperatures and exposures inside of the grid, and prints the pulls of what the hot pixels read, and of the scale of the
dark. Exit code 1 if the rms of the former misses 1 by more than the number of frames allows.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from simulated import Recipe, Sensor, write_campaign
from sky import Sky, write_light

from benchmarks.common import Verdict, print_verdicts
from master_controller import MasterController

RECIPE = Recipe(
    rows=256,
    cols=256,
    temperatures_c=(-15.0, -10.0, -5.0, 0.0),
    exposures_s=(30.0, 100.0, 300.0),
    n_darks=4,
    n_biases=8,
)
CASES: dict[str, Recipe] = {
    "physics": RECIPE,
    "exponential": dataclasses.replace(RECIPE, law="exponential", seed=2),
    "physics, 0.1 C of jitter": dataclasses.replace(RECIPE, temperature_jitter_k=0.1, thermometer_step_k=0.4, seed=3),
}
FIELD = Sky(sky_adu_s=1.0, stars=250, brightest_adu_s=300.0)
SIGMAS = 3.0  # of an rms over n pulls, 1/sqrt(2 n)


def lights(folder: Path, sensor: Sensor, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames at drawn temperatures and exposures; these."""
    rng = np.random.default_rng([sensor.recipe.seed, 50])
    t_c, t_s = rng.uniform(-14.0, -1.0, frames), np.exp(rng.uniform(np.log(40.0), np.log(280.0), frames)).round(1)
    for k in range(frames):
        write_light(folder / f"light_{k:03d}.fits", sensor, float(t_c[k]), float(t_s[k]), sky=FIELD, seed=k)
    return t_c, t_s


def calibrated(folder: Path, model: Path, out: Path, temperature: str) -> Table:
    """The table of a run of calibrate."""
    settings: dict[str, Any] = {"output_dir": out, "load_data": {"basepath": folder}, "quiet": True}
    flags = {"calibrate": {"model_dir": str(model), "temperature": temperature, "residual": True}}
    MasterController(settings, flags=flags).run("calibrate").raise_for_failure()
    return Table.read(out / "calibrated" / "calibrated.ecsv", format="ascii.ecsv")


def pulls_of(title: str, pulls: np.ndarray, error: np.ndarray, unit: str, *, judged: bool = True) -> list[Verdict]:
    """Rms and mean of pulls, beside the typical error."""
    n = pulls.size
    rms, mean = float(np.sqrt(np.mean(pulls**2))), float(pulls.mean())
    near = SIGMAS / np.sqrt(2 * n)
    return [
        Verdict(f"{title}: typical error [{unit}]", f"{np.median(error):.4f}"),
        Verdict(f"{title}: rms of {n} pulls", f"{rms:.3f}", f"1 within {near:.2f}" if judged else "",
                abs(rms - 1) <= near if judged else None),
        Verdict(f"{title}: mean pull", f"{mean:+.3f}"),
    ]  # fmt: skip


def case(name: str, recipe: Recipe, folder: Path, frames: int) -> list[Verdict]:
    """One sensor."""
    sensor = write_campaign(folder / "raw", recipe)
    settings = {"output_dir": folder / "model", "load_data": {"basepath": folder / "raw"}, "quiet": True}
    MasterController(settings).run("full", until_step=5).raise_for_failure()
    t_c, _ = lights(folder / "lights", sensor, frames)
    hot = calibrated(folder / "lights", folder / "model", folder / "hot", "thermometer")
    header = calibrated(folder / "lights", folder / "model", folder / "header", "header")
    off, error = np.asarray(hot["hot_c"]) - t_c, np.asarray(hot["hot_error_c"])
    scale, scale_error = np.asarray(header["scale"]) - 1.0, np.asarray(header["scale_error"])
    model = str(hot["model"][0])
    # an error that all frames share (that of the model's cells) is one draw: its pulls are shown, not judged
    judged = recipe.temperature_jitter_k == 0
    out = pulls_of(f"{name} ({model}): temperature", off / error, error, "C", judged=judged)
    out.append(Verdict(f"{name}: temperature, rms [C]", f"{np.sqrt(np.mean(off**2)):.4f}"))
    return out + pulls_of(f"{name}: scale k", scale / scale_error, scale_error, "1", judged=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=60, help="light frames of each sensor")
    options = parser.parse_args(arguments)
    passed = True
    for number, (name, recipe) in enumerate(CASES.items()):
        with tempfile.TemporaryDirectory() as temporary:
            passed &= print_verdicts(name, case(name, recipe, Path(temporary) / str(number), options.frames))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
