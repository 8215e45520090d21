"""What is left of a frame after the median or average that it is part of: factors, and real frames against them.

    python benchmarks/classic_master.py [--pixels 400000]

First the factors of docs/science.md beside simulated normal noise, then each set of alike real frames: robust sigma
found after `characterize` against what it expected (target: within 5 %).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.table import Table

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import Verdict, print_verdicts, real_data, robust_spread, run_pipeline
from darkpipe.science.classic_master import METHODS, residual_factor, robust_residual_factor, variance_of_median

SETS = (
    ("st8_itb_cc0", ("exposure=25",)),
    ("st8_itb_cc0", ("exposure=3",)),
    ("stl1001e_sbu_dev/2017_cgs", ("exposure=60", "temperature=-5")),
    ("stl1001e_sbu_dev/2017_cgs", ("kind=bias", "temperature=-10")),
    ("stl1001e_sbu_dev/2017_cgs", ("kind=bias", "temperature=-5")),
    ("st402_sbu", ("exposure=240",)),
    ("st402_sbu", ("exposure=1200",)),
    ("cmos_dl_nrc_bias", ("temperature=15",)),
)
COMBINE = {"median": np.median, "average": np.mean}


def factors(pixels: int) -> list[Verdict]:
    """Factors as computed, and of simulated noise."""
    found = []
    for n in (2, 3, 4, 5, 10, 30):
        frames = np.random.default_rng(n).normal(0.0, 1.0, (n, max(pixels // n, 1)))
        for method in METHODS:
            left = frames - COMBINE[method](frames, axis=0)
            rms, robust = residual_factor(n, method), robust_residual_factor(n, method)
            apart = max(abs(left.std() / rms - 1), abs(robust_spread(left) / robust - 1))
            what = f"{method} of {n}: rms {rms:.3f}, robust {robust:.3f}, variance {variance_of_median(n):.4f}"
            found.append(Verdict(what, f"{100 * apart:.2f} % apart", "simulated within 1 %", bool(apart < 0.01)))
    return found


def real_sets(folder: Path, scratch: Path) -> list[Verdict]:
    """Found / expected sigma of every set: the middle one of its frames."""
    found = []
    for number, (name, select) in enumerate(SETS):
        for method in METHODS:
            out = scratch / f"{number}_{method}"
            chosen = [word for each in select for word in ("--select", each)]
            line = ("--mode", "characterize", "--basepath", folder / name, "--output_dir", out, "--combine", method)
            run_pipeline(*line, *chosen, "--quiet")
            rows = Table.read(out / "characterize" / "statistics.ecsv", format="ascii.ecsv")
            ratio = float(np.median(rows["sigma_ratio"]))
            what = f"{name} {' '.join(select)}, {method} of {len(rows)}"
            found.append(Verdict(what, f"{ratio:.3f}", "0.95 to 1.05", bool(abs(ratio - 1) <= 0.05)))
    return found


def main() -> int:
    """Print both tables; 1 if something is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, default=400_000, help="samples of each simulated set")
    chosen = parser.parse_args()
    good = print_verdicts("What is left of a frame, in units of its noise", factors(chosen.pixels))
    if real_data().is_dir():
        with tempfile.TemporaryDirectory() as scratch:
            good &= print_verdicts("Real frames: sigma found / expected", real_sets(real_data(), Path(scratch)))
    else:
        print(f"no real frames in {real_data()}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
