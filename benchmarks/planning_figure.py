"""What a survey camera would cost, on paper: bytes, CPU hours, wall time, from measured rates.

``python benchmarks/planning_figure.py`` makes simulated campaigns in pairs that differ in their pixels alone, runs the
steps of ``full`` one by one on each, and takes from the differences what a pixel of a frame or of a cell costs in CPU
time, bytes read and bytes written; what is left is the cost of a run whatever its size. It measures the controller's
own time for a job as well. Then it scales to ``--detectors`` of ``--mpix`` with ``--frames``. Below half a Mpix, steps
that look at a sample of the pixels still grow with the sensor, and the CPU time comes out too high: the sides should be
512 and more. ``--rates FILE`` takes rates that were measured before (``--save FILE``), on another machine if you like.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from simulated import PRESETS, Recipe, shots, write_campaign

from benchmarks.common import REPOSITORY
from darkpipe.files.atomic import replace_text
from darkpipe.jobs.contract import Digests, Job
from darkpipe.jobs.journal import Journal
from darkpipe.jobs.runner import Runner

STEPS = {
    1: ("look at frames", "frame"),
    2: ("bias, levels", "frame"),
    3: ("master darks", "frame"),
    4: ("saturation, hot pixels", "cell"),
    5: ("fits", "cell"),
    6: ("synthetic darks", "cell"),
    7: ("evaluation", "cell"),
}
"""Steps of full by number: what they do, and what their cost grows with (besides pixels)."""

WORKERS = (2, 16, 64, 256, 1024)
STORAGE_GB_S = (0.2, 1.0, 5.0, 20.0)
COUNTERS = ("cpu_s", "read_bytes", "written_bytes")
CALL = """
import json, os, resource, sys
sys.path.insert(0, sys.argv[1])
from run_pipeline import main

def now():
    io = dict(line.split(": ") for line in open("/proc/self/io").read().splitlines())
    return [sum(os.times()[:4]), float(io["rchar"]), float(io["wchar"])]

main([*sys.argv[3:], "--dry_run"])  # what is imported is no cost of the first step
for step in sys.argv[2].split(","):
    before = now()
    if main([*sys.argv[3:], "--from_step", step, "--until_step", step]):
        sys.exit(1)
    spent = [after - then for then, after in zip(before, now())]
    print("counted", json.dumps([int(step), *spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""
CAMPAIGNS = {
    # what grows with frames: as many in a cell as in the camera that is planned, so that masters are as many
    "frame": dataclasses.replace(
        PRESETS["tiny"], temperatures_c=(-10.0, 0.0), exposures_s=(30.0, 100.0, 300.0), n_darks=20, n_biases=10
    ),
    # what grows with cells: as many as there
    "cell": dataclasses.replace(
        PRESETS["tiny"],
        temperatures_c=(-20.0, -15.0, -10.0, -5.0, 0.0),
        exposures_s=(10.0, 30.0, 100.0, 200.0, 300.0),
        n_darks=4,
        n_biases=4,
    ),
}


@dataclasses.dataclass(frozen=True)
class Counted:
    """Of one step: CPU time [s], bytes read and written (also from and to the page cache), peak memory so far [MB]."""

    cpu_s: float
    read_bytes: float
    written_bytes: float
    peak_mb: float


def counted_steps(recipe: Recipe, folder: Path, steps: Sequence[int]) -> dict[int, Counted]:
    """These steps of full on a campaign, one after the other in a process of its own.

    Raises
    ------
    RuntimeError
        if one fails.
    """
    write_campaign(folder / "raw", recipe)
    config = folder / "settings.yaml"
    config.write_text("evaluate_model: {pictures: false}\nreport: {write: false}\n")
    line = ["--mode", "full", "--basepath", str(folder / "raw"), "--config", str(config), "--quiet"]
    command = [sys.executable, "-c", CALL, str(REPOSITORY), ",".join(map(str, steps)), *line]
    done = subprocess.run([*command, "--output_dir", str(folder / "out")], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the pipeline ended with {done.returncode}:\n{done.stderr[-3000:]}")
    found = [
        json.loads(text.removeprefix("counted")) for text in done.stdout.splitlines() if text.startswith("counted")
    ]
    return {number: Counted(*values) for number, *values in found}


def write_one(inputs: Any, outputs: tuple[Path, ...], *, number: int) -> Digests:
    """A job that does next to nothing."""
    return {outputs[0]: replace_text(outputs[0], "x")}


@dataclasses.dataclass(frozen=True)
class _Step:
    NAME = "empty"
    VERSION = 1


def controller_s(folder: Path, n: int = 2000) -> float:
    """CPU seconds that a job costs the controller: looked up, sent, recorded; with the job itself, which is next to
    nothing. That the journal and the products are synced comes on top, once a batch."""
    step: Any = _Step()
    jobs = [
        Job(write_one, (), (folder / str(number % 50) / f"{number}.txt",), {"number": number}) for number in range(n)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    runner = Runner(Journal(folder), lambda: ThreadPoolExecutor(1), 1)
    start = time.process_time()
    runner.run(step, "", runner.stale(step, jobs))
    runner.close()
    return (time.process_time() - start) / n


def rate_of(small: Counted, large: Counted, sides: tuple[int, int], units: int) -> dict[str, Any]:
    """What a Mpix of one frame or cell costs, and what is left of the smaller run."""
    mpix = [side * side / 1e6 for side in sides]
    slopes, fixed = {}, {}
    for name in COUNTERS:
        first, second = float(getattr(small, name)), float(getattr(large, name))
        slope = max(second - first, 0.0) / (mpix[1] - mpix[0])
        slopes[name], fixed[name] = slope / units, max(first - slope * mpix[0], 0.0)
    return {"per_mpix": slopes, "fixed": fixed, "peak_mb": large.peak_mb}


def measured(sides: tuple[int, int], *, compiled: bool) -> dict[str, Any]:
    """Rates: for each step what a Mpix of a frame (or cell) costs, and the step as such; a job of the controller.

    compiled : kernels of this version have been compiled before; else that is done first.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        controller = controller_s(folder / "controller")
        if not compiled:
            counted_steps(dataclasses.replace(CAMPAIGNS["cell"], rows=64, cols=64), folder / "first", tuple(STEPS))
        rates: dict[str, Any] = {"sides": list(sides), "steps": {}}
        for unit, recipe in CAMPAIGNS.items():
            wanted = [number for number, (_, of) in STEPS.items() if of == unit]
            until = tuple(range(1, wanted[-1] + 1))
            runs = [
                counted_steps(dataclasses.replace(recipe, rows=side, cols=side), folder / f"{unit}{side}", until)
                for side in sides
            ]
            units = len(shots(recipe)) if unit == "frame" else len(recipe.temperatures_c) * len(recipe.exposures_s)
            rates["steps"] |= {str(n): rate_of(runs[0][n], runs[1][n], sides, units) for n in wanted}
        rates["controller_s"] = controller
    return rates


@dataclasses.dataclass(frozen=True)
class Camera:
    """detectors of mpix, frames (darks and biases) of each in so many cells; bytes_per_pixel of a raw frame."""

    detectors: int
    mpix: float
    frames: int
    cells: int
    bytes_per_pixel: int = 2

    @property
    def raw_bytes(self) -> float:
        """Of all frames."""
        return self.detectors * self.frames * self.mpix * 1e6 * self.bytes_per_pixel

    @property
    def jobs(self) -> int:
        """A survey a frame; masters and their like three times a cell; bands of the fit of half a Mpix."""
        return int(self.detectors * (self.frames + 3 * self.cells + 2 * self.mpix * 4 + 30))


def cost(camera: Camera, rates: Mapping[str, Any]) -> dict[int, dict[str, float]]:
    """CPU seconds and bytes of each step, over all detectors."""
    found = {}
    for number, (_, unit) in STEPS.items():
        step = rates["steps"][str(number)]
        units = camera.mpix * (camera.frames if unit == "frame" else camera.cells)
        found[number] = {n: camera.detectors * (step["per_mpix"][n] * units + step["fixed"][n]) for n in COUNTERS}
    return found


def wall_s(camera: Camera, rates: Mapping[str, Any], workers: int, gb_s: float) -> tuple[float, str]:
    """The longest of three: arithmetic over the workers, bytes over the storage, jobs over the one controller; and
    which it is. They overlap, so this is a lower bound, which a run comes near where one is much the longest."""
    total = {name: sum(step[name] for step in cost(camera, rates).values()) for name in COUNTERS}
    limits = {
        "CPU": total["cpu_s"] / workers,
        "storage": (total["read_bytes"] + total["written_bytes"]) / (gb_s * 1e9),
        "controller": camera.jobs * rates["controller_s"],
    }
    slowest = max(limits, key=lambda name: limits[name])
    return limits[slowest], slowest


def lines(camera: Camera, rates: Mapping[str, Any]) -> list[str]:
    """The tables, as Markdown."""
    found = cost(camera, rates)
    made = [
        f"{camera.detectors} detectors of {camera.mpix:g} Mpix, {camera.frames} frames in {camera.cells} cells each: "
        f"{camera.raw_bytes / 1e12:.2f} TB of raw frames, {camera.jobs} jobs",
        "",
        "| step | CPU ms a Mpix | of a | CPU h | read TB | written TB |",
        "|---|---|---|---|---|---|",
    ]
    for number, (what, unit) in STEPS.items():
        rate = 1e3 * rates["steps"][str(number)]["per_mpix"]["cpu_s"]
        cpu_s, read, written = (found[number][name] for name in COUNTERS)
        made.append(
            f"| {number} {what} | {rate:.1f} | {unit} | {cpu_s / 3600:.2f} | {read / 1e12:.2f} | {written / 1e12:.2f} |"
        )
    total = {name: sum(step[name] for step in found.values()) for name in COUNTERS}
    tera = [total[name] / 1e12 for name in COUNTERS[1:]]
    made.append(f"| all | | | {total['cpu_s'] / 3600:.2f} | {tera[0]:.2f} | {tera[1]:.2f} |")
    made += [
        "",
        f"controller: {1e3 * rates['controller_s']:.2f} ms a job, {camera.jobs * rates['controller_s']:.0f} s in all",
    ]
    made += ["", "| workers | " + " | ".join(f"{gb_s:g} GB/s" for gb_s in STORAGE_GB_S) + " |", "|---" * 5 + "|"]
    for workers in WORKERS:
        cells = [wall_s(camera, rates, workers, gb_s) for gb_s in STORAGE_GB_S]
        made.append(f"| {workers} | " + " | ".join(f"{told(seconds)}, {limit}" for seconds, limit in cells) + " |")
    return made


def told(seconds: float) -> str:
    """A time in words."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detectors", type=int, default=189)
    parser.add_argument("--mpix", type=float, default=16.0)
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--cells", type=int, default=25)
    parser.add_argument("--sides", type=int, nargs=2, default=(768, 1536), help="of the two measured campaigns")
    parser.add_argument("--compiled", action="store_true", help="kernels have been compiled by an earlier run")
    parser.add_argument("--rates", type=Path, help="rates that were measured before")
    parser.add_argument("--save", type=Path, help="where to write the rates")
    options = parser.parse_args(arguments)
    if options.rates is not None:
        rates = json.loads(options.rates.read_text())
    else:
        rates = measured(tuple(options.sides), compiled=options.compiled)
    if options.save is not None:
        options.save.write_text(json.dumps(rates, indent=1) + "\n")
    camera = Camera(options.detectors, options.mpix, options.frames, options.cells)
    print("\n".join(lines(camera, rates)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
