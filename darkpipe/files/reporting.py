"""What the report of a campaign is written from: which files there are, and what their tables hold."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkpipe import plain_yaml
from darkpipe.errors import ProductError
from darkpipe.files.evaluating import relative_name
from darkpipe.files.index import ACCEPTED, read_frames
from darkpipe.files.layout import ModelDir, OutputDir
from darkpipe.files.masters import Cell, read_cells
from darkpipe.files.model_check import read_verdict
from darkpipe.files.model_maps import Description, read_description
from darkpipe.files.products import read_header
from darkpipe.files.tables import read_table
from darkpipe.regular import read_text

Row = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """What a report is about: the place of the report, the place of the masters, the model if there is one."""

    out: OutputDir
    place: OutputDir
    folder: ModelDir | None
    description: Description | None
    cells: list[Cell]

    @classmethod
    def of(cls, out: OutputDir) -> Subject:
        """The campaign of an output directory; of an evaluation of a model from elsewhere, that model.

        Raises
        ------
        ProductError
            when there are no master darks to tell of.
        """
        folder = _model_of(out)
        place = out
        if not out.groups.is_file() and folder is not None:
            place = OutputDir(folder.path.parent, "")
        if not place.groups.is_file():
            raise ProductError(
                "there is nothing to report: no master darks", where=out.base, do="run full (or evaluation_only) first"
            )
        description = None if folder is None else read_description(folder.description)
        return cls(out, place, folder, description, read_cells(place.groups))

    @property
    def check(self) -> OutputDir:
        """Where new frames were held against a model: here (check_model), or before the model was fitted with them."""
        return self.out if self.out.check_verdict.is_file() else self.out.last_check

    @property
    def own(self) -> bool:
        """Whether the model was fitted to these masters."""
        return self.folder is not None and self.folder.path.resolve() == self.place.model.path.resolve()

    def ranked(self) -> list[int]:
        """Numbers of the cells by the level of their masters, the faintest first."""
        level = [float(r["level_adu"]) for r in read_table(self.place.groups)]
        return sorted(range(len(level)), key=lambda k: (math.isfinite(level[k]), level[k]))

    def model_files(self, key: str) -> list[Path]:
        """What a model predicts from, its description first."""
        assert self.folder is not None
        assert self.description is not None
        m = self.description.find(key)
        files = [self.folder.description, *self.folder.maps(m.name, m.cell).values()]
        files.append(self.folder.covariance(m.name, m.cell))
        optional = (self.folder.hot_pixel_mask, self.folder.saturation_map, self.folder.bias_line)
        return files + [p for p in (*optional, self.folder.offset(m.name, m.cell)) if p.is_file()]

    def raw_frames(self) -> list[Path]:
        """The accepted frames of this configuration; none where there is no index."""
        if not self.out.index.is_file():
            return []
        return [frame.path for frame in read_frames(self.out.index, self.out.campaign or "")]

    def glow(self) -> Path | None:
        """The map of the glow that was found, of the chosen model where it knows of glow."""
        if self.folder is None or self.description is None:
            return None
        names = [self.description.chosen, *(m.name for m in self.description.models)]
        for name in names:
            path = self.folder.glow_blocks(name.split("/")[0])
            if path.is_file() and read_header(path)["FOUND"]:
                return path
        return None


def _model_of(out: OutputDir) -> ModelDir | None:
    """The model that was evaluated here, else the one that was fitted here."""
    if out.evaluation_table.is_file():
        said = read_table(out.evaluation_table).meta.get("model")
        if said is not None:
            folder = ModelDir(Path(os.path.normpath(out.evaluation / said)))
            if folder.description.is_file():
                return folder
    return out.model if out.model.description.is_file() else None


def tables_of(subject: Subject) -> dict[str, Path]:
    """The tables that there are, by what they are."""
    out, place, check = subject.out, subject.place, subject.check
    known = {
        "index": out.index,
        "groups": place.groups,
        "corrected": place.corrected,
        "biases": place.biases,
        "bias_frames": place.bias_frames,
        "reference": place.reference,
        "evaluation": out.evaluation_table,
        "candidates": out.candidates,
        "sensor": place.sensor_summary,
        "verdict": check.check_verdict,
        "checks": place.model.checks,
    }
    if subject.folder is not None:
        known["description"] = subject.folder.description
    return {name: path for name, path in known.items() if path.is_file()}


def products_of(subject: Subject) -> list[Path]:
    """The files that a user takes away: masters, model, darks, tables."""
    place, out, folder = subject.place, subject.out, subject.folder
    files = [out.index, place.reference, place.corrected, place.groups, place.group_frames, place.sensor_summary]
    if place.biases.is_file():
        files += [place.biases, place.bias_line, place.read_noise_map]
        files += [place.master_bias(str(r["bias"])) for r in read_table(place.biases)]
    files += [place.master_dark(c.name) for c in subject.cells]
    if folder is not None and subject.description is not None:
        files += [folder.description, folder.hot_pixel_mask, folder.saturation_map, folder.bias_line, folder.frames]
        files += folder.bad_pixels.values()
        for m in subject.description.models:
            files += [*folder.maps(m.name, m.cell).values(), folder.covariance(m.name, m.cell)]
            files += [folder.chi2(m.name, m.cell), folder.status_map(m.name, m.cell), folder.offset(m.name, m.cell)]
            files += [folder.activation_energy(m.name, m.cell), folder.doubling_temperature(m.name, m.cell)]
            files += [folder.held_out(m.name, m.cell), folder.population(m.name, m.cell)]
            files += [folder.glow_blocks(m.name)] if "glow" in m.name else []
    files += [out.synthetic(c.name) for c in subject.cells]
    files += [out.evaluation_table, out.candidates]
    return [p for p in dict.fromkeys(files) if p.is_file()]


def read_facts(named: Mapping[str, Path], campaign: str) -> dict[str, Any]:
    """Content of the tables of `tables_of` as plain data; what is not there is empty."""
    facts: dict[str, Any] = {
        name: rows_of(named.get(name))
        for name in ("groups", "corrected", "biases", "bias_frames", "evaluation", "candidates", "sensor", "checks")
    }
    facts["chosen"] = str(_meta(named.get("evaluation")).get("chosen", ""))
    corrected = _meta(named.get("corrected"))
    facts["corrected_notes"] = [str(n) for n in corrected.get("notes", ())]
    index = rows_of(named.get("index"))
    facts["used"] = [r for r in index if r["status"] == ACCEPTED and r["campaign"] == campaign]
    facts["refused"] = [r for r in index if r["status"] != ACCEPTED]
    facts["found"] = len(index)
    facts["reference"] = _yaml(named.get("reference"))
    description = named.get("description")
    facts["description"] = None if description is None else read_description(description)
    verdict = named.get("verdict")
    facts["verdict"] = None if verdict is None else read_verdict(verdict)
    return facts


def rows_of(path: Path | None) -> list[Row]:
    """The rows of a table as plain data; none where there is no file."""
    if path is None or not path.is_file():
        return []
    table = read_table(path)
    columns = [[math.nan if value is None else value for value in table[n].tolist()] for n in table.colnames]
    return [dict(zip(table.colnames, row, strict=True)) for row in zip(*columns, strict=True)]


def _meta(path: Path | None) -> Mapping[str, Any]:
    return {} if path is None else dict(read_table(path).meta)


def _yaml(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        data = plain_yaml.load(read_text(path))
    except (OSError, ValueError) as error:
        raise ProductError(f"a product cannot be read ({error})", where=path, do="run with --force") from error
    return dict(data) if isinstance(data, dict) else {}


def product_rows(products: Sequence[Path], base: Path, origins: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """A row a product: its name from the output directory, what the journal knows of it."""
    rows = []
    for path in products:
        known = origins.get(os.fspath(path), {})
        rows.append(
            {
                "file": relative_name(path, base),
                "bytes": known.get("size", path.stat().st_size),
                "digest": str(known.get("digest", "")),
                "step": known.get("step", ""),
                "version": known.get("version", ""),
            }
        )
    return rows
