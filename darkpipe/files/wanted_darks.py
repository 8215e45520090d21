"""Which darks are asked of a model: the cells of its campaign, what each is made of, which lie beyond the campaign."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from darkpipe.errors import DesignError
from darkpipe.files.layout import ModelDir
from darkpipe.files.model_maps import Description, FittedModel
from darkpipe.files.synthetic import law_beside, model_for, outside_words
from darkpipe.files.tables import read_table

log = logging.getLogger("darkpipe")


def cells_of_model(groups: Path, description: Description, wanted: str) -> list[tuple[float, float]]:
    """(temperature [°C], exposure [s]) of the cells of a campaign that the model makes; none without a table.

    Raises
    ------
    DesignError
        when it makes none of them.
    """
    if not groups.is_file():
        return []
    cells, why = [], None
    for r in read_table(groups):
        temperature, exposure = float(r["temperature_c"]), float(r["exposure_s"])
        try:
            model_for(description, wanted, temperature, exposure)
        except DesignError as error:
            why = error
            log.warning("no synthetic dark for cell %s: the model was not fitted there", r["cell"])
            continue
        cells.append((temperature, exposure))
    if why is not None and not cells:
        raise why
    return cells


def inputs_of_dark(
    folder: ModelDir, description: Description, key: str, temperature_c: float, exposure_s: float, include_bias: bool
) -> list[Path]:
    """Every file that a dark is made of; the description of the model is the first."""
    model = description.find(key)
    beside = law_beside(description, model, temperature_c, exposure_s)
    files = [folder.description]
    for m in (model, *((beside,) if beside is not None else ())):
        files += [*folder.maps(m.name, m.cell).values(), folder.covariance(m.name, m.cell)]
    files += [p for p in (folder.hot_pixel_mask, folder.saturation_map) if p.is_file()]
    if include_bias:
        files += [p for p in (folder.bias_line, folder.offset(model.name, model.cell)) if p.is_file()]
    return files


def say_outside(outside: Mapping[str, FittedModel]) -> None:
    """One line for all darks beyond the campaign: their names, with the model that each is of."""
    if not outside:
        return
    log.warning("%s", outside_words(next(iter(outside.values())), list(outside)))
