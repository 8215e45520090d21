"""A toy pipeline with real files: text "frames" named <configuration>-<cell>-<number>.txt, each holding a number.

Its steps have the shape of the real ones (survey a frame, index, one product a cell, tiles, one model). Run as a
script it is a pipeline that tests can kill.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xxhash
from pydantic import BaseModel, ConfigDict

from darkpipe.errors import NothingToModelError, PipelineError
from darkpipe.files.atomic import replace_text
from darkpipe.jobs.contract import Digests, Job
from master_controller import MasterController


@dataclass(frozen=True)
class ToyPlace:
    root: Path
    campaign: str | None = None

    @property
    def base(self) -> Path:
        return self.root / self.campaign if self.campaign else self.root

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def rows(self) -> list[dict[str, str]]:
        rows: list[dict[str, str]] = json.loads((self.root / "index.json").read_text())
        return [row for row in rows if not self.campaign or row["configuration"] == self.campaign]

    def campaigns(self) -> list[ToyPlace]:
        names = sorted({row["configuration"] for row in self.rows()})
        return [ToyPlace(self.root, name if len(names) > 1 else "") for name in names]

    def matches(self, select: Mapping[str, str]) -> bool:
        return select == {"configuration": self.campaign}

    def new_frames(self) -> ToyPlace | None:
        return None


@dataclass(frozen=True)
class ToyStep:
    NAME: str
    VERSION: int
    Settings: type[BaseModel]
    plan: Callable[[Any, Any], Iterator[list[Job]]]
    summary: Callable[[Any], list[tuple[str, str]]] = lambda out: []


class Nothing(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LoadSettings(Nothing):
    basepath: Path | None = None


class CellSettings(Nothing):
    factor: float = 1.0
    pause_s: float = 0.0


class ModelSettings(Nothing):
    tiles: int = 3
    model: str = "auto"


class SyntheticSettings(Nothing):
    what: str = "cells"
    wished: str | None = None


def no_plan(out: ToyPlace, settings: Nothing) -> Iterator[list[Job]]:
    yield from ()


# step 1
def plan_load(out: ToyPlace, settings: LoadSettings) -> Iterator[list[Job]]:
    if settings.basepath is None or not settings.basepath.is_dir():
        raise PipelineError("there is no such folder", where=settings.basepath)
    frames = sorted(settings.basepath.glob("*.txt"))
    surveys = [out.root / "survey" / f"{frame.stem}.json" for frame in frames]
    yield [Job(survey, (f,), (s,), {}, label=f"survey {f.name}") for f, s in zip(frames, surveys, strict=True)]
    yield [Job(make_index, tuple(surveys), (out.root / "index.json",), {}, label="index")]


def survey(inputs: Sequence[Path], outputs: Sequence[Path]) -> Digests:
    content = inputs[0].read_bytes()
    configuration, cell, _ = inputs[0].stem.split("-")
    path = os.path.relpath(inputs[0], outputs[0].parent.parent)
    row = {"path": path, "configuration": configuration, "cell": cell, "value": content.decode()}
    read = xxhash.xxh3_128_hexdigest(content)
    return {inputs[0]: read, outputs[0]: replace_text(outputs[0], json.dumps(row))}


def make_index(inputs: Sequence[Path], outputs: Sequence[Path]) -> Digests:
    rows = [json.loads(path.read_text()) for path in inputs]
    for row in rows:
        del row["value"]
    return {outputs[0]: replace_text(outputs[0], json.dumps(rows))}


# step 2
def plan_cells(out: ToyPlace, settings: CellSettings) -> Iterator[list[Job]]:
    cells: dict[str, list[Path]] = {}
    for row in out.rows():
        if row["cell"] != "none":
            cells.setdefault(row["cell"], []).append(out.root / row["path"])
    if not cells:
        raise NothingToModelError("there are no cells", where=out.campaign)
    yield [
        Job(combine, tuple(frames), (master(out, cell),), settings.model_dump(), label=f"master {cell}")
        for cell, frames in cells.items()
    ]
    names = tuple(master(out, cell) for cell in cells)
    yield [Job(list_cells, names, (out.base / "cells.json",), {}, label="cells")]


def master(out: ToyPlace, cell: str) -> Path:
    return out.base / "masters" / f"{cell}.txt"


def combine(inputs: Sequence[Path], outputs: Sequence[Path], *, factor: float, pause_s: float) -> Digests:
    values = [float(path.read_text()) for path in inputs]
    if any(value < 0 for value in values):
        raise PipelineError("a negative value", where=inputs[0], do="Take it out")
    if any(value == 666 for value in values):
        raise ZeroDivisionError("a bug")
    if any(value == 999 for value in values):
        os._exit(9)  # as a job that the system kills for its memory
    time.sleep(pause_s)
    return {outputs[0]: replace_text(outputs[0], f"{factor * sum(values)}")}


def list_cells(inputs: Sequence[Path], outputs: Sequence[Path]) -> Digests:
    return {outputs[0]: replace_text(outputs[0], json.dumps([path.stem for path in inputs]))}


# step 3
def plan_model(out: ToyPlace, settings: ModelSettings) -> Iterator[list[Job]]:
    masters = tuple(master(out, cell) for cell in json.loads((out.base / "cells.json").read_text()))
    tiles = tuple(out.base / "tiles" / f"{number}.txt" for number in range(settings.tiles))
    yield [Job(fit, masters, (t,), {"number": n, "n": settings.tiles}, label=f"tile {n}") for n, t in enumerate(tiles)]
    yield [Job(assemble, tiles, (out.base / "model.txt",), {"model": settings.model}, label="model")]


def fit(inputs: Sequence[Path], outputs: Sequence[Path], *, number: int, n: int) -> Digests:
    time.sleep(0.005)
    mine = inputs[number::n]
    return {outputs[0]: replace_text(outputs[0], "".join(f"{path.stem} {path.read_text()}\n" for path in mine))}


def assemble(inputs: Sequence[Path], outputs: Sequence[Path], *, model: str) -> Digests:
    return {outputs[0]: replace_text(outputs[0], model + "\n" + "".join(path.read_text() for path in inputs))}


# step 4
def plan_synthetic(out: ToyPlace, settings: SyntheticSettings) -> Iterator[list[Job]]:
    cells = json.loads((out.base / "cells.json").read_text())
    if settings.wished is not None:
        cells = [settings.wished]
    yield [
        Job(
            synthesise,
            (out.base / "model.txt",),
            (out.base / "synthetic" / f"{cell}.txt",),
            {"cell": cell},
            requested=settings.wished is not None,
            label=f"synthetic {cell}",
        )
        for cell in cells
    ]


def synthesise(inputs: Sequence[Path], outputs: Sequence[Path], *, cell: str) -> Digests:
    replace_text(outputs[0], cell + "\n" + inputs[0].read_text())
    return {}  # the controller hashes what it was not told


def summarise_cells(out: ToyPlace) -> list[tuple[str, str]]:
    return [("cells", str(len({row["cell"] for row in out.rows()})))]


STEPS = (
    ToyStep("acquire_darks", 1, Nothing, no_plan),
    ToyStep("load_data", 1, LoadSettings, plan_load),
    ToyStep("cells", 1, CellSettings, plan_cells, summarise_cells),
    ToyStep("fit_dark_model", 1, ModelSettings, plan_model),
    ToyStep("generate_synthetic_darks", 1, SyntheticSettings, plan_synthetic),
    ToyStep("five", 1, Nothing, no_plan),
    ToyStep("six", 1, Nothing, no_plan),
    ToyStep("seven", 1, Nothing, no_plan),
    ToyStep("eight", 1, Nothing, no_plan),
    ToyStep("nine", 1, Nothing, no_plan),
    ToyStep("load_em_frames", 1, LoadSettings, no_plan),
    *(ToyStep(f"step_{number}", 1, Nothing, no_plan) for number in range(11, 20)),
)


def changed_step(number: int, **changes: Any) -> tuple[ToyStep, ...]:
    """The toy steps, one of them changed."""
    return (*STEPS[:number], replace(STEPS[number], **changes), *STEPS[number + 1 :])


def write_frames(folder: Path, *names: str) -> Path:
    """Frames with values that follow from their names."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.txt").write_text(str(sum(name.encode())))
    return folder


def controller(root: Path, *, steps: Sequence[ToyStep] = STEPS, **settings: Any) -> MasterController:
    """A controller for the frames in root/raw and the products in root/out."""
    given = {"output_dir": root / "out", "workers": 2, "load_data": {"basepath": root / "raw"}, **settings}
    return MasterController(given, steps=steps, layout=ToyPlace)


def main(root: Path, engine: str, pause_s: float, scheduler: str | None = None) -> int:
    given = {"engine": engine, "cells": {"pause_s": pause_s}, "dask_scheduler": scheduler}
    return controller(root, **given).run("full").exit_code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), *sys.argv[4:]))
