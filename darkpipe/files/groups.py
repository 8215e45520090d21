"""Tables of step 3: the cells of a campaign, and the frames of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from astropy.table import Table

from darkpipe.errors import ProductError
from darkpipe.files.corrections import LINE, Tolerances, cells_of
from darkpipe.files.index import RawFrame
from darkpipe.files.layout import cell_name, exposure_label, temperature_label
from darkpipe.files.tables import read_table, table_of


def group_tables(
    darks: Sequence[RawFrame], corrected: Mapping[str, Mapping[str, Any]], tolerances: Tolerances, old: Path | None
) -> tuple[Table, Table]:
    """(cells, frames of cells). A cell keeps the name under which it was first seen, in `old`, if it is there.

    Parameters
    ----------
    darks : accepted darks. corrected : their rows of corrected.ecsv by file.
    """
    known = [] if old is None else _known(old)
    cells, frames, taken = [], [], set[str]()
    for cell in cells_of(darks, tolerances):
        members = [darks[i] for i in cell.members]
        temperature, exposure = cell.temperature.temperature_c, cell.exposure_s
        name = _name(temperature, exposure, cell.temperature.source, known, tolerances, taken)
        taken.add(name)
        bias = str(corrected[members[0].file]["bias"])
        cells.append(
            {
                "cell": name,
                "temperature_c": temperature,
                "temperature_sigma_c": cell.temperature.sigma_c,
                "temperature_source": cell.temperature.source,
                "measured_c": _mean([m.temperature_c for m in members]),
                "set_point_c": _mean([m.set_point_c for m in members]),
                "exposure_s": exposure,
                "frames": len(members),
                # cells of one bias share its error; a line has an error at each temperature
                "bias": f"{bias} {temperature_label(temperature)}" if bias == LINE else bias,
                "level_adu": _mean([float(corrected[m.file]["level_adu"]) for m in members]),
            }
        )
        for m in members:
            frames.append(
                {"cell": name, "file": m.file, "hdu": m.hdu, "offset_adu": float(corrected[m.file]["offset_adu"])}
            )
    return table_of(cells), table_of(frames)


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values))


def _known(path: Path) -> list[tuple[str, float, float]]:
    try:
        return [(str(r["cell"]), float(r["temperature_c"]), float(r["exposure_s"])) for r in read_table(path)]
    except (ProductError, KeyError):
        return []


def _name(
    temperature_c: float,
    exposure_s: float,
    source: str,
    known: Sequence[tuple[str, float, float]],
    tolerances: Tolerances,
    taken: set[str],
) -> str:
    """The old name of a measured cell that is near enough, else one made of its temperature and exposure."""
    if source == "measured":
        near = [
            (abs(t - temperature_c), name)
            for name, t, e in known
            if abs(t - temperature_c) <= tolerances.temperature_c
            and abs(e - exposure_s) <= tolerances.exposure * exposure_s
            and name not in taken
        ]
        if near:
            return min(near)[1]
    name = cell_name(temperature_c, exposure_s)
    if name not in taken:
        return name
    # clusters closer than a tenth of a degree: more digits keep them apart
    return f"T{temperature_c:.3f}C_{exposure_label(exposure_s)}"
