"""check_model against simulated truth: a sensor whose rates grew, whose pedestal moved, that got new hot pixels.

``python benchmarks/ageing.py`` fits a model to a campaign of the tests' generator, lets the sensor age in known ways,
takes a few new frames of it and prints what the check says beside the truth; frames of the unchanged sensor beyond the
range of the model, by the true law and by the other; then it checks 20 campaigns of the unchanged sensor. Exit code 1
if a figure misses its target. ``--real`` prints the check of real frames instead: halves of the STL-1001E set against
each other, and its frames of 2019 against a model of 2017.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.io import fits
from astropy.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from aged_sensor import LATER, Ageing, aged, write_later
from simulated import PRESETS, Recipe, Sensor, write_campaign

from benchmarks.common import Verdict, print_verdicts, real_data
from darkpipe.science.flags import DQ
from master_controller import MasterController

RECIPE = dataclasses.replace(
    PRESETS["demo"], rows=256, cols=256, glow_rate_adu_s=0.0, temperature_jitter_k=0.02, telegraph_fraction=0.001
)
TEMPERATURES_C, EXPOSURES_S = (-10.0, 0.0), (60.0, 120.0, 300.0)
CASES: dict[str, tuple[Ageing, str]] = {
    "unchanged": (Ageing(), "current"),
    "rate +2 %": (Ageing(growth=1.02), "current"),
    "rate +5 %": (Ageing(growth=1.05), "drifted"),
    "rate +20 %": (Ageing(growth=1.20), "stale"),
    "hot pixels alone +20 %": (Ageing(hot_growth=1.20), "stale"),
    "pedestal +10 ADU": (Ageing(pedestal_adu=10.0), "drifted"),
    "pedestal -60 ADU": (Ageing(pedestal_adu=-60.0), "stale"),
    "0.2 % new hot pixels": (Ageing(new_hot=0.002), "drifted"),
    "1 % new hot pixels": (Ageing(new_hot=0.01), "stale"),
    "a third of the hot ones vanished": (Ageing(vanished=0.35), "drifted"),
}
RATE, PEDESTAL, HOT_FOUND, FALSE_HOT = 3.0, 3.0, 0.95, 1e-4  # sigmas, sigmas, fraction, fraction of pixels
CAMPAIGNS = 20


@dataclass(frozen=True)
class Checked:
    """What a check said: the verdict file, the pixels, and the exit code."""

    verdict: dict[str, Any]
    pixels: Table
    exit_code: int

    def mask(self, kind: str, shape: tuple[int, int]) -> np.ndarray:
        """The pixels of a kind."""
        out = np.zeros(shape, bool)
        chosen = self.pixels[self.pixels["kind"] == kind] if len(self.pixels) else self.pixels
        out[np.asarray(chosen["y"], int), np.asarray(chosen["x"], int)] = True
        return out

    def criterion(self, name: str) -> tuple[float, float]:
        """Value and error of the criterion whose name begins so."""
        found = next(c for c in self.verdict["criteria"] if c["name"].startswith(name))
        return float(found["value"]), float(found["error"])


def fit(folder: Path, recipe: Recipe) -> Sensor:
    """A campaign and its model below folder."""
    sensor = write_campaign(folder / "raw", recipe)
    settings = {"output_dir": folder / "model", "load_data": {"basepath": folder / "raw"}, "quiet": True}
    MasterController(settings).run("full", until_step=5).raise_for_failure()
    return sensor


def check(folder: Path, sensor: Sensor, model: Path, *, darks: int, biases: int, first: int = LATER) -> Checked:
    """New frames of a sensor against a model."""
    write_later(folder / "raw", sensor, TEMPERATURES_C, EXPOSURES_S, darks=darks, biases=biases, first=first)
    return look(folder, model)


def look(folder: Path, model: Path, /, **how: Any) -> Checked:
    """The frames in folder/raw against a model; `how`: settings of the check."""
    settings = {"output_dir": folder / "out", "load_data": {"basepath": folder / "raw"}, "quiet": True,
                "check_model": how}  # fmt: skip
    report = MasterController(settings, flags={"check_model": {"model_dir": str(model)}}).run("check_model")
    report.raise_for_failure()
    out = folder / "out" / "check"
    verdict = yaml.safe_load((out / "verdict.yaml").read_text())
    return Checked(verdict, Table.read(out / "changed_pixels.ecsv", format="ascii.ecsv"), report.exit_code)


def case_verdicts(
    name: str, change: Ageing, expected: str, sensor: Sensor, done: Checked, was_hot: np.ndarray
) -> list[Verdict]:
    """Figures of one case beside the truth. `was_hot`: what the model's mask calls hot."""
    truth = aged(sensor, change)
    hot_growth = change.growth if change.hot_growth is None else change.hot_growth
    out = [Verdict(f"{name}: verdict", done.verdict["verdict"], expected, done.verdict["verdict"] == expected)]
    for what, start, true, limit in (
        ("bulk rate", "rate of bulk", change.growth, RATE),
        ("hot rate", "rate of hot", hot_growth, RATE),
        ("pedestal [ADU]", "pedestal", change.pedestal_adu, PEDESTAL),
    ):
        value, error = done.criterion(start)
        ok = abs(value - true) <= limit * error
        out.append(Verdict(f"{name}: {what}", f"{value:.3f}+-{error:.3f}", f"{true:g} within {limit:g} errors", ok))
    for kind, mask in (("new", truth.new), ("vanished", truth.vanished)):
        found = done.mask(kind, mask.shape)
        sought = mask & ~sensor.telegraph & (was_hot | (kind == "new"))
        if sought.any():
            share = float(found[sought].mean())
            ok = share >= HOT_FOUND
            out.append(Verdict(f"{name}: {kind} found of {sought.sum()}", f"{share:.3f}", f">= {HOT_FOUND}", ok))
        false = int((found & ~mask).sum())
        out.append(Verdict(f"{name}: {kind} by mistake", f"{false}", f"<= {FALSE_HOT * mask.size:.0f}",
                           false <= FALSE_HOT * mask.size))  # fmt: skip
    return out


def false_alarms(folder: Path, sensor: Sensor, model: Path, campaigns: int, *, darks: int) -> list[Verdict]:
    """Campaigns of the sensor as it was: verdicts, pulls of the rates, false hot pixels."""
    done = [
        check(folder / f"again_{darks}_{n}", sensor, model, darks=darks, biases=5, first=LATER + 50 * (n + 1))
        for n in range(campaigns)
    ]
    alarms = sum(d.verdict["verdict"] != "current" for d in done)
    title = f"unchanged, {darks} frame(s) a cell, {campaigns} times"
    out = [Verdict(f"{title}: alarms", str(alarms), "0", alarms == 0)]
    for what, start, true in (
        ("bulk", "rate of bulk", 1.0),
        ("hot", "rate of hot", 1.0),
        ("pedestal", "pedestal", 0.0),
    ):
        values = np.array([d.criterion(start) for d in done])
        pulls = (values[:, 0] - true) / values[:, 1]
        shown = f"{values[:, 0].std():.4f}, {values[:, 1].mean():.4f}"
        out.append(Verdict(f"{title}: {what}, scatter and mean error", shown))
        out.append(Verdict(f"{title}: {what}, largest pull", f"{np.abs(pulls).max():.2f}", "<= 3",
                           bool(np.abs(pulls).max() <= 3)))  # fmt: skip
    for kind in ("new", "vanished", "unconfirmed"):
        counts = [d.verdict["hot_pixels"][kind] for d in done]
        most = FALSE_HOT * sensor.hot.size
        ok = None if kind == "unconfirmed" else max(counts) <= most
        out.append(Verdict(f"{title}: most {kind} pixels", str(max(counts)), f"<= {most:.0f}" if ok is not None else "",
                           ok))  # fmt: skip
    return out


def beyond(folder: Path, sensor: Sensor, model: Path) -> list[Verdict]:
    """Frames of the sensor as it was, warmer than the model by 5 and 10 °C, by the true law and by the other one."""
    out = []
    for warmer in (5.0, 10.0):
        place = folder / f"beyond_{warmer:g}"
        write_later(place / "raw", sensor, (max(TEMPERATURES_C) + warmer,), EXPOSURES_S, darks=3, biases=5)
        for law in ("two_component", "exp_2d"):
            done = look(place, model, extrapolate=True, model=law)
            title = f"{warmer:g} C beyond, {law}"
            alarm = done.verdict["verdict"]
            for what in ("bulk", "hot"):
                value, error = done.criterion(f"rate of {what}")
                out.append(Verdict(f"{title}: {what} rate", f"{value:.3f}+-{error:.3f}", f"1 within {RATE:g} errors",
                                   abs(value - 1.0) <= RATE * error))  # fmt: skip
            out.append(Verdict(f"{title}: verdict", alarm))
    return out


def real(folder: Path) -> None:
    """Halves of the real set against each other; its frames of 2019 at 0 °C against a model of 2017."""
    frames: dict[tuple[Any, ...], list[Path]] = {}
    everything = (real_data() / "stl1001e_sbu_dev").rglob("*")
    for path in sorted(p for p in everything if p.suffix.casefold().startswith(".fit")):
        header = fits.getheader(path)
        if header["SET-TEMP"] < 5.0:
            year = header["DATE-OBS"][:4]
            frames.setdefault((year, header["IMAGETYP"], header["SET-TEMP"]), []).append(path)
    for paths in frames.values():
        paths.sort(key=lambda p: (fits.getval(p, "EXPTIME"), p.name))
    sets = {
        "even": [p for paths in frames.values() for p in paths[::2]],
        "odd": [p for paths in frames.values() for p in paths[1::2]],
        "2017": [p for (year, *_), paths in frames.items() for p in paths if year == "2017"],
        "2019": [p for (year, *_), paths in frames.items() for p in paths if year == "2019"],
    }
    for name, paths in sets.items():
        (folder / name / "raw").mkdir(parents=True)
        for number, path in enumerate(paths):
            (folder / name / "raw" / f"{number:03d}.fits").symlink_to(path.resolve())
        if name != "2019":
            settings = {"output_dir": folder / name / "model", "load_data": {"basepath": folder / name / "raw"}}
            MasterController({**settings, "quiet": True}).run("full", until_step=5).raise_for_failure()
    for new, old in (("odd", "even"), ("even", "odd"), ("2019", "2017")):
        done = look(folder / new, folder / old / "model", extrapolate=True)
        rows = [Verdict("verdict", done.verdict["verdict"]),
                Verdict("cells, of which extrapolated", f"{len(done.verdict['cells'])}",
                        f"{len(done.verdict.get('extrapolated', []))}")]  # fmt: skip
        for what in ("rate of bulk", "rate of hot", "pedestal"):
            value, error = done.criterion(what)
            rows.append(Verdict(what, f"{value:.3f}+-{error:.3f}"))
        rows += [Verdict(kind, str(done.verdict["hot_pixels"][kind])) for kind in ("new", "vanished", "compared")]
        print_verdicts(f"STL-1001E: frames {new}, model of {old}", rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--campaigns", type=int, default=CAMPAIGNS, help="of the unchanged sensor")
    parser.add_argument("--darks", type=int, default=3, help="new frames a cell")
    parser.add_argument("--real", action="store_true", help="the real set alone")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.real:
            real(folder)
            return 0
        sensor = fit(folder / "then", dataclasses.replace(RECIPE, seed=options.seed))
        model = folder / "then" / "model"
        was_hot = (fits.getdata(model / "dark_model" / "hot_pixel_mask.fits", "DQ") & int(DQ.HOT)) != 0
        passed = True
        for number, (name, (change, expected)) in enumerate(CASES.items()):
            done = check(folder / f"case_{number}", aged(sensor, change).sensor, model, darks=options.darks, biases=5)
            passed &= print_verdicts(name, case_verdicts(name, change, expected, sensor, done, was_hot))
        passed &= print_verdicts("extrapolated", beyond(folder, sensor, model))
        if options.campaigns:
            for darks in (options.darks, 1):
                verdicts = false_alarms(folder, sensor, model, options.campaigns, darks=darks)
                passed &= print_verdicts("false alarms", verdicts)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
