"""The table of docs/which_campaign.md: what campaigns of one camera cost, and how accurate their darks will be.

``python benchmarks/which_campaign.py`` asks `plan_campaign` for each and prints a line a campaign, for the sensor that
it has unless told otherwise: camera time, and the error of the dark at -7.5 °C, 120 s (between the cells), of a bulk
and of a hot pixel, as a percentage of the noise of one frame there.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from astropy.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import run_pipeline

TARGET_C, TARGET_S = -7.5, 120.0
CAMPAIGNS = (  # temperatures [°C], exposures [s], darks a cell
    ("-10 0", "60 300", 5),
    ("-10 0", "30 90 300", 10),
    ("-10 -5 0", "30 90 300", 5),
    ("-10 -5 0", "30 90 300", 10),
    ("-10 -5 0", "30 90 300", 20),
    ("-10 -7.5 -5 -2.5 0", "30 60 120 180 300", 5),
    ("-15 -10 -5", "30 90 300", 10),
    ("-10 -5 0", "60 180 600", 10),
    ("-10 -5 0", "10 30 90", 10),
)


def row(temperatures: str, exposures: str, darks: int, folder: Path) -> str:
    """A line of the table."""
    run_pipeline(
        *("--mode", "plan_campaign", "--output_dir", folder, "--temps", f" {temperatures}", "--exptimes", exposures),
        *("--num_darks", darks, "--temp_single", TARGET_C, "--exptime_single", TARGET_S),
    )
    plan = Table.read(folder / "campaign_plan" / "changes.ecsv", format="ascii.ecsv")[0]
    errors = (f"{100 * plan[f'{kind}_error_per_frame_noise']:.1f} %" for kind in ("bulk", "hot"))
    cells = f"{temperatures.replace(' ', ', ')} °C × {exposures.replace(' ', ', ')} s × {darks}"
    return f"| {cells} | {plan['frames']} | {plan['hours']:.1f} h | {' | '.join(errors)} |"


def main() -> int:
    """Print the table."""
    print("| temperatures × exposures × darks | frames | camera time | bulk | hot |\n|---|---|---|---|---|")
    for number, campaign in enumerate(CAMPAIGNS):
        with tempfile.TemporaryDirectory() as folder:
            print(row(*campaign, Path(folder) / str(number)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
