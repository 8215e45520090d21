"""The pipeline against simulated truth: pulls of maps and darks, errors against the Cramér–Rao bound, faint pixels.

``python benchmarks/simulated_truth.py`` makes a campaign of each law with the tests' generator, runs the pipeline on
it and prints every figure beside its target; exit code 1 if one is missed. ``--quick`` does so on fewer pixels;
``--scenarios`` goes through other sensors, campaigns and flaws, a line each. ``judge`` does it for any recipe.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from simulated import PRESETS, Recipe, write_campaign

from benchmarks import judging
from benchmarks.common import Verdict, print_verdicts, robust_spread, run_pipeline
from benchmarks.judging import MODEL_OF_LAW, Outcome
from benchmarks.scenarios import SCENARIOS, Scenario


def run(recipe: Recipe, folder: Path) -> Outcome:
    """Make the campaign under folder, run ``full`` on it, and ask for darks between its cells."""
    sensor = write_campaign(folder / "raw", recipe)
    run_pipeline("--mode", "full", "--basepath", folder / "raw", "--output_dir", folder / "out")
    outcome = Outcome(sensor, folder / "out")
    outcome.synthesise()
    return outcome


def judge(recipe: Recipe, folder: Path) -> list[Verdict]:
    """Every figure of a recipe's campaign beside its target."""
    return judging.all_verdicts(run(recipe, folder))


def row(name: str, outcome: Outcome, scenario: Scenario) -> tuple[str, bool]:
    """One line of figures, the missed ones marked, and whether none was."""
    marks: list[str] = []
    passed = True

    def show(text: str, ok: bool | None) -> None:
        nonlocal passed
        marks.append(text + ("!" if ok is False else " "))
        passed &= ok is not False

    maps = [v for v in judging.map_verdicts(outcome) if v.what.startswith("pulls")]
    for v in [*maps, *[maps[-1]] * (3 - len(maps))][:3]:
        show(f"{v.value.split()[0] if v.target else '-':>6}", v.passed)
    ratios = [judging.error_ratio(outcome, p, outcome.ordinary) for p in outcome.darks]
    show(f"{max(ratios):7.3f}", None if "mae" in scenario.shown else max(ratios) <= judging.MAE_RATIO)
    hot = [judging.error_ratio(outcome, p, outcome.ordinary & outcome.sensor.hot) for p in outcome.darks]
    show(f"{np.nanmax(hot):6.2f}", None)
    spreads = [robust_spread(judging.pull_of(d)[outcome.ordinary]) for d in outcome.darks.values()]
    worst = max(spreads, key=lambda s: abs(s - 1))
    show(f"{worst:6.3f}", abs(worst - 1) <= judging.SPREAD)
    faint = judging.faint_verdicts(outcome)
    off = max((float(v.value) for v in faint), key=abs, default=float("nan"))
    show(f"{off:+7.3f}", None if "faint" in scenario.shown else all(v.passed for v in faint))
    held = judging.held_out_verdicts(outcome)[0]
    show(f"{held.value if held.target else '-':>6}", held.passed)
    calibration = {v.what: v for v in judging.calibration_verdicts(outcome)}
    for what in ("read noise, relative error", "gain, relative error"):
        v = calibration.get(what, Verdict(what, "-"))
        show(f"{v.value:>8}", v.passed)
    auto = calibration["auto takes"]
    show(f"{auto.value:>13}", None if "auto" in scenario.shown else auto.passed)
    for v in judging.flag_verdicts(outcome):
        if v.what.split()[0] in ("UNSTABLE", "NONLINEAR", "OUTLIER"):
            show(f"{v.value.split()[0]:>7}", v.passed)
    return f"{name:<16} {outcome.sensor.recipe.law[:4]} " + " ".join(marks), passed


HEADER = "\n".join(
    " " * 21 + line
    for line in (
        " pulls of A, B, gamma   worst MAE/bound  worst   worst   held-  read     gain     auto takes"
        "      false alarms: un-",
        "    or of G, D, D         all     hot    pull   faint   out    noise"
        + " " * 36
        + "stable, non-linear, outlier",
    )
)


def run_scenarios(names: Sequence[str], laws: Sequence[str], recipe: Recipe, folder: Path) -> bool:
    """A line each; '!' marks what misses its target. A run that fails is said, and the others go on."""
    print(HEADER)
    passed = True
    for name in names:
        for law in laws:
            changes: dict[str, Any] = {**SCENARIOS[name].changes, "law": law}
            with tempfile.TemporaryDirectory(dir=folder) as place:
                try:
                    outcome = run(dataclasses.replace(recipe, **changes), Path(place))
                    line, ok = row(name, outcome, SCENARIOS[name])
                except RuntimeError as error:
                    line, ok = f"{name:<16} {law[:4]} {error}", False
            print(line, flush=True)
            passed &= ok
    return passed


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--law", choices=sorted(MODEL_OF_LAW), action="append", help="default: both")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="leave campaigns and products in this folder")
    parser.add_argument("--quick", action="store_true", help="128 x 128 pixels: spreads are known to 1 %% then")
    parser.add_argument(
        "--scenarios", nargs="*", choices=list(SCENARIOS), metavar="NAME", help="other campaigns, a line each; all"
    )
    options = parser.parse_args(arguments)
    size: dict[str, Any] = {"rows": 128, "cols": 128} if options.quick else {}
    recipe = dataclasses.replace(PRESETS["default"], seed=options.seed, **size)
    laws = options.law or sorted(MODEL_OF_LAW)
    passed = True
    with tempfile.TemporaryDirectory() as temporary:
        if options.scenarios is not None:
            names = options.scenarios or list(SCENARIOS)
            return 0 if run_scenarios(names, laws, recipe, Path(temporary)) else 1
        for law in laws:
            start = time.perf_counter()
            folder = (options.keep or Path(temporary)) / law
            verdicts = judge(dataclasses.replace(recipe, law=law), folder)
            passed &= print_verdicts(f"law {law}, seed {options.seed} ({time.perf_counter() - start:.0f} s)", verdicts)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
