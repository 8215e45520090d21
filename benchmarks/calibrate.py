"""Real darks that were held out of the model, calibrated as though they were lights; against scaled masters and peers.

``python benchmarks/calibrate.py`` fits the STL-1001E set twice, each time without half of its cells (the others of
every temperature and all of +10 °C left out), and calibrates the frames of the cells that were left out. Printed for
each cell: the robust sigma of what is left, what shot noise, read noise and the model's error predict for it (over
unflagged pixels), and what is left by the nearest master scaled by exposure, by ccdproc and by Siril's dark
optimisation; then what the hot pixels read beside the header. ``--peer PYTHON`` is an interpreter with ccdproc;
siril-cli is run where it is installed. Judged are cells inside of the fitted grid in temperature and exposure. Exit
code 1 if a figure misses its target.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from astropy.io import fits
from astropy.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.common import Verdict, print_verdicts, real_data, robust_spread, run_pipeline
from darkpipe.science.flags import MODEL_INVALID

SET = "stl1001e_sbu_dev"
Cell = tuple[float, float]  # set point [°C], exposure [s]
FOLDS: tuple[tuple[Cell, ...], ...] = (
    ((-10.0, 20.0), (-10.0, 60.0), (-5.0, 20.0), (-5.0, 60.0), *((0.0, t) for t in (30.0, 90.0, 150.0, 210.0, 270.0))),
    ((-10.0, 30.0), (-10.0, 150.0), (-5.0, 30.0), (-5.0, 150.0), *((0.0, t) for t in (60.0, 120.0, 180.0, 240.0))),
)
LEFT_OUT_C = 10.0
INSIDE_C = -5.0
NEAR, THERMOMETER_STEP_C = 0.05, 0.415
TOP = 65535.0


@dataclass
class CellResult:
    """Robust sigmas of the frames of a cell [ADU]: measured, predicted, of others by name; spread of residual / ERR."""

    measured: list[float] = field(default_factory=list)
    predicted: list[float] = field(default_factory=list)
    pulls: list[float] = field(default_factory=list)
    others: dict[str, list[float]] = field(default_factory=dict)


def cell_of(path: Path) -> Cell:
    """Set point and exposure of a raw frame."""
    header = fits.getheader(path)
    return round(float(header["SET-TEMP"]), 1), float(header["EXPTIME"])


def split(frames: Sequence[Path], held_out: Sequence[Cell], folder: Path) -> tuple[Path, Path]:
    """Folders with the frames of the model and those that are calibrated, as links."""
    for name in ("model_frames", "lights"):
        (folder / name).mkdir(parents=True)
    for path in frames:
        cell = cell_of(path)
        if cell[0] == LEFT_OUT_C:
            continue
        target = folder / ("lights" if cell in held_out else "model_frames") / f"{path.parent.name}_{path.name}"
        target.symlink_to(path.resolve())
    return folder / "model_frames", folder / "lights"


def nearest_master(model: Path, cell: Cell) -> tuple[np.ndarray, float]:
    """The longest master of the model at this temperature, above its bias, and its exposure."""
    groups = Table.read(model / "groups.ecsv", format="ascii.ecsv")
    same = [r for r in groups if abs(float(r["temperature_c"]) - cell[0]) < 0.5]
    longest = max(same, key=lambda r: float(r["exposure_s"]))
    path = model / "dark_masks_by_temp" / f"darks_{longest['cell']}.fits"
    return fits.getdata(path, "SCI").astype(float), float(longest["exposure_s"])


def bias_of(model: Path, temperature_c: float) -> np.ndarray:
    """The model's bias at a temperature."""
    path = model / "dark_model" / "bias_model.fits"
    return fits.getdata(path, "SCI") + fits.getdata(path, "B1") * (temperature_c - fits.getheader(path)["T_REF"])


class Ccdproc:
    """ccdproc in an environment of its own."""

    def __init__(self, python: str, folder: Path) -> None:
        self.folder = folder
        worker = Path(__file__).parent / "ccdproc_worker.py"
        self.process = subprocess.Popen([python, str(worker)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def subtract(self, light: np.ndarray, dark: np.ndarray, light_s: float, dark_s: float) -> np.ndarray:
        """The light less the scaled dark, both above their bias."""
        names = {name: str(self.folder / f"{name}.npy") for name in ("light", "dark", "out")}
        np.save(names["light"], light)
        np.save(names["dark"], dark)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({**names, "light_s": light_s, "dark_s": dark_s}) + "\n")
        self.process.stdin.flush()
        if not self.process.stdout.readline():
            raise RuntimeError("ccdproc gave no answer")
        return np.asarray(np.load(names["out"]))

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def siril(light: np.ndarray, bias: np.ndarray, dark: np.ndarray, folder: Path) -> np.ndarray:
    """Siril's dark optimisation: the dark above its bias, scaled for least noise; what it gives back, in ADU."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "frames").mkdir(parents=True)
    for number in (1, 2):  # a sequence has two frames at least
        fits.PrimaryHDU(light).writeto(folder / "frames" / f"light_{number:05d}.fit")
    for name, plane in (("bias", bias), ("dark", dark)):
        fits.PrimaryHDU((plane / TOP).astype(np.float32)).writeto(folder / f"{name}.fit")
    script = folder / "script.ssf"
    frames = folder / "frames"
    script.write_text(
        f"requires 1.0.0\nset32bits\ncd {frames}\npreprocess light_ -bias=../bias -dark=../dark -opt -prefix=pp_\n"
    )
    subprocess.run(["siril-cli", "-s", str(script)], check=True, capture_output=True)
    return np.asarray(fits.getdata(frames / "pp_light_00001.fit"), float) * TOP


def mixed_sigma(error: np.ndarray) -> float:
    """Robust sigma of pixels with these errors: that of one Gaussian draw of each."""
    return robust_spread(np.random.default_rng(1).normal(size=error.size) * error)


def run_fold(number: int, folder: Path, peer: str | None, results: dict[Cell, CellResult], *, fit: bool) -> Table:
    """Fit without the cells of a fold, calibrate these; what the table of calibrated frames says."""
    lights, model, out = folder / "lights", folder / "model", folder / "out"
    quiet = ("--quiet",)
    if fit:
        model_frames, lights = split(sorted((real_data() / SET).rglob("*.FIT")), FOLDS[number], folder)
        run_pipeline("--mode", "full", "--until_step", 5, "--basepath", model_frames, "--output_dir", model, *quiet)
    run_pipeline(
        "--mode", "calibrate", "--kinds", "dark bias", "--residual", "--basepath", lights,
        "--model_dir", model, "--output_dir", out, *quiet,
    )  # fmt: skip
    table = Table.read(out / "calibrated" / "calibrated.ecsv", format="ascii.ecsv")
    ccdproc = Ccdproc(peer, folder) if peer else None
    for row in table:
        raw = lights / str(row["file"])
        cell = cell_of(raw)
        if cell not in FOLDS[number]:
            continue
        with fits.open(out / "calibrated" / f"{Path(str(row['file'])).with_suffix('').as_posix()}.fits") as hdus:
            science, error, dq = (hdus[name].data for name in ("SCI", "ERR", "DQ"))
        good = (dq & int(MODEL_INVALID)) == 0
        found = results.setdefault(cell, CellResult())
        left = science[good].astype(float)
        found.measured.append(robust_spread(left))
        found.predicted.append(mixed_sigma(error[good].astype(float)))
        found.pulls.append(robust_spread((left - np.median(left)) / error[good]))
        add_others(found, fits.getdata(raw), good, model, cell, ccdproc, folder)
    if ccdproc is not None:
        ccdproc.close()
    return table


def add_others(
    found: CellResult,
    raw: np.ndarray,
    good: np.ndarray,
    model: Path,
    cell: Cell,
    ccdproc: Ccdproc | None,
    folder: Path,
) -> None:
    """What others leave of a frame: the scaled master of this project, ccdproc, Siril; all get one master and bias."""
    master, master_s = nearest_master(model, cell)
    master = np.where(np.isfinite(master), master, 0.0)
    bias = bias_of(model, cell[0])
    above = raw.astype(float) - bias
    left = {"scaled": above - master * cell[1] / master_s}
    if ccdproc is not None:
        left["ccdproc"] = ccdproc.subtract(above, master, cell[1], master_s)
    if shutil.which("siril-cli"):
        left["siril"] = siril(raw, bias, master, folder / "siril")
    for name, plane in left.items():
        found.others.setdefault(name, []).append(robust_spread(plane[good]))


def print_cells(results: dict[Cell, CellResult]) -> None:
    """Cell by cell, means over frames."""
    names = sorted({name for r in results.values() for name in r.others})
    print(f"{'T [C]':>6} {'t [s]':>6} {'n':>3} {'left':>7} {'predicted':>9} {'ratio':>6} {'pulls':>6}", end="")
    print("".join(f" {name:>8}" for name in names))
    for cell, r in sorted(results.items()):
        left, predicted = np.mean(r.measured), np.mean(r.predicted)
        print(
            f"{cell[0]:6.0f} {cell[1]:6.0f} {len(r.measured):3d} {left:7.3f} {predicted:9.3f} {left / predicted:6.3f} "
            f"{np.mean(r.pulls):6.3f}" + "".join(f" {np.mean(r.others[name]):8.3f}" for name in names)
        )


def judge(results: dict[Cell, CellResult]) -> list[Verdict]:
    """The targets, for cells inside of the grid."""
    out = []
    for cell, r in sorted(results.items()):
        if cell[0] != INSIDE_C:
            continue
        ratio = float(np.mean(r.measured) / np.mean(r.predicted))
        title = f"{cell[0]:g} C, {cell[1]:g} s"
        out.append(
            Verdict(f"{title}: left / predicted", f"{ratio:.3f}", f"1 within {NEAR:.0%}", abs(ratio - 1) <= NEAR)
        )
        for name, values in r.others.items():
            left, theirs = float(np.mean(r.measured)), float(np.mean(values))
            out.append(Verdict(f"{title}: left, ours against {name}", f"{left:.3f}", f"< {theirs:.3f}", left < theirs))
    return out


def judge_thermometer(tables: Sequence[Table]) -> list[Verdict]:
    """What the hot pixels read against the header of frames that the model never saw."""
    rows = [r for t in tables for r in t if str(r["status"]) == "calibrated" and float(r["exposure_s"]) > 0]
    print(f"\n{'set':>5} {'t [s]':>6} {'CCD-TEMP':>9} {'hot':>8} {'+-':>6} {'pixels':>6} {'scale k':>14}  correlation")
    for r in sorted(rows, key=lambda r: (r["set_point_c"], r["exposure_s"])):
        print(
            f"{r['set_point_c']:5.0f} {r['exposure_s']:6.0f} {r['header_c']:9.3f} {r['hot_c']:8.3f} "
            f"{r['hot_error_c']:6.3f} {r['hot_pixels']:6d} {r['scale']:7.3f}+-{r['scale_error']:.3f} "
            f"{r['correlation_before']:.3f} -> {r['correlation_after']:.3f}"
        )
    apart = np.array([r["hot_c"] - r["header_c"] for r in rows], float)
    from_set = np.array([r["hot_c"] - r["set_point_c"] for r in rows], float)
    readings = np.array([r["header_c"] - r["set_point_c"] for r in rows], float)
    error = np.array([r["hot_error_c"] for r in rows], float)
    largest = float(np.abs(apart).max())

    def rms(values: np.ndarray) -> str:
        return f"{np.sqrt(np.mean(values**2)):.3f}"

    return [
        Verdict("hot pixels - CCD-TEMP, largest [C]", f"{largest:.3f}", f"< {THERMOMETER_STEP_C} (one step)",
                largest < THERMOMETER_STEP_C),
        Verdict("hot pixels - CCD-TEMP, rms [C]", rms(apart)),
        Verdict("CCD-TEMP - set point, rms [C]", rms(readings)),
        Verdict("hot pixels - set point, rms [C]", rms(from_set)),
        Verdict("hot pixels - set point, rms in errors", rms(from_set / error)),
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter with ccdproc")
    parser.add_argument("--output_dir", type=Path, help="keep models and frames here")
    parser.add_argument("--no_fit", action="store_true", help="with the models that an earlier run left there")
    options = parser.parse_args(arguments)
    if options.no_fit and options.output_dir is None:
        parser.error("--no_fit needs --output_dir")
    results: dict[Cell, CellResult] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.output_dir or Path(temporary)
        tables = [
            run_fold(k, folder / f"fold_{k}", options.peer, results, fit=not options.no_fit) for k in range(len(FOLDS))
        ]
        for k in range(len(FOLDS)):
            chosen = yaml.safe_load((folder / f"fold_{k}" / "model" / "dark_model" / "model.yaml").read_text())[
                "chosen"
            ]
            print(f"fold {k}: model {chosen}, without {', '.join(f'{t:g} C {e:g} s' for t, e in FOLDS[k])}")
    print_cells(results)
    verdicts = judge(results) + judge_thermometer(tables)
    return 0 if print_verdicts("held-out darks calibrated as lights, real set", verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
