"""Models into folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from darkpipe.files.atomic import replace_file
from darkpipe.files.held_model import HeldModel
from darkpipe.files.layout import ModelDir
from darkpipe.files.model_maps import Description, write_description
from darkpipe.files.products import write_frame
from darkpipe.files.tables import write_table

if TYPE_CHECKING:
    from astropy.table import Table


def keep_model(target: Path, folder: ModelDir, description: Description, tables: Mapping[Path, Table]) -> Path:
    """Write a model's products into `target`; its description last, since that says that a model is there.

    Raises
    ------
    ProductError
        when it cannot be written.
    """
    if isinstance(folder, HeldModel):
        for path, frame in folder.held.items():
            write_frame(target / path.relative_to(folder.path), frame)
        for path, table in tables.items():
            write_table(target / path.relative_to(folder.path), table)
    elif target.resolve() != folder.path.resolve():
        for path in _files(folder, description):
            copy_file(path, target / path.relative_to(folder.path))
    write_description(ModelDir(target).description, description)
    return target


def copy_file(source: Path, target: Path) -> None:
    """A whole copy or none."""
    content = source.read_bytes()

    def write(stream: BinaryIO) -> None:
        stream.write(content)

    replace_file(target, write)


def _files(folder: ModelDir, description: Description) -> list[Path]:
    """What a model on disk is made of, as far as it is there."""
    files = [folder.hot_pixel_mask, folder.saturation_map, folder.bias_line]
    for m in description.models:
        files += folder.maps(m.name, m.cell).values()
        files += [f(m.name, m.cell) for f in (folder.covariance, folder.chi2, folder.status_map, folder.offset)]
        files += [folder.held_out(m.name, m.cell), folder.held_out_maps(m.name, m.cell)]
    return [path for path in files if path.is_file()]
