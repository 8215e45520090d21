"""Where a model stands, and what it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from darkpipe.errors import DesignError
from darkpipe.files.layout import ModelDir, OutputDir
from darkpipe.files.masters import Cell, read_cells, read_reference
from darkpipe.files.model_maps import Description, read_description
from darkpipe.files.products import Product
from darkpipe.files.tables import read_table

if TYPE_CHECKING:
    from astropy.table import Table

TOP_RAW = 0.95 * 65535.0


class FitsRange(NamedTuple):
    """What a model was fitted to.

    temperature_c, exposure_s : lowest and highest, [°C] and [s]. temperatures_c, exposures_s : of the cells, rising.
    """

    temperature_c: tuple[float, float]
    exposure_s: tuple[float, float]
    temperatures_c: tuple[float, ...]
    exposures_s: tuple[float, ...]


@dataclass(frozen=True)
class Origin:
    """What a model was made from, as far as it is at hand.

    cells : (temperature [°C], exposure [s]) of each. saturation_raw : raw counts from which on a frame is saturated.
    read_noise : its map. masters : with their cells. rejected : reasons by frame. tables : by their place in the model.
    report : the page that the pipeline wrote of it.
    """

    cells: Sequence[tuple[float, float]] = ()
    saturation_raw: float = TOP_RAW
    read_noise: Product | None = None
    masters: Sequence[tuple[Product, Cell]] = ()
    rejected: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[Path, Table] = field(default_factory=dict)
    report: Path | None = None


def configured(path: Path, configuration: str | None) -> ModelDir:
    """The model folder of one configuration."""
    single = any(ModelDir(p).description.is_file() for p in (path, OutputDir(path, "").model.path))
    if single and configuration is None:
        return ModelDir.at(path)
    found = {c.campaign or "": c.model for c in OutputDir(path).campaigns() if c.model.description.is_file()}
    if configuration is not None and configuration in found:
        return found[configuration]
    if single and configuration == read_description(ModelDir.at(path).description).configuration:
        return ModelDir.at(path)
    if len(found) == 1 and configuration is None:
        return next(iter(found.values()))
    if not found:
        return ModelDir.at(path)  # says that there is none
    raise DesignError(
        "there are several configurations here" if configuration is None else f"there is no model of {configuration}",
        where=path,
        do="name one of them: " + ", ".join(sorted(found)),
    )


def origin_on_disk(folder: ModelDir, description: Description) -> Origin:
    """What stands beside a model on disk."""
    beside = OutputDir(folder.path.parent, "")
    chosen = next((m for m in description.models if m.key == description.chosen), description.models[0])
    table = folder.held_out(chosen.name, chosen.cell)
    cells = [
        (float(r["temperature_c"]), float(r["exposure_s"])) for r in (read_table(table) if table.is_file() else ())
    ]
    saturation = read_reference(beside.reference).saturation_raw if beside.reference.is_file() else TOP_RAW
    noise = beside.read_noise_map if beside.read_noise_map.is_file() else None
    masters: list[tuple[Product, Cell]] = []
    if beside.groups.is_file():
        masters = [(p, c) for c in read_cells(beside.groups) if (p := beside.master_dark(c.name)).is_file()]
    report = beside.report if beside.report.is_file() else None
    return Origin(cells, saturation, noise, masters, report=report)
