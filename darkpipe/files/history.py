"""Models that a refit replaced, below `dark_model/history/`: an archive, no product.

Each stands in a folder of its own, laid out as a model folder, so that it can be given as `--model_dir`. It holds the
model that was chosen: its description, parameters and covariance; the other candidates are not kept.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
import yaml

from darkpipe import plain_yaml
from darkpipe.errors import PipelineError, ProductError
from darkpipe.files.atomic import replace_file, replace_text
from darkpipe.files.layout import ModelDir
from darkpipe.files.model_maps import ModelMaps, read_description, read_maps
from darkpipe.regular import read_text
from darkpipe.science.ageing import compare_cell
from darkpipe.science.flags import MODEL_INVALID
from darkpipe.science.noise import robust_median, robust_sigma

HOT_SIGMA = 5.0


@contextmanager
def keeping_replaced(folder: ModelDir, model: str, scope: str, outputs: Sequence[Path]) -> Iterator[None]:
    """Keep the files of the chosen model that are replaced meanwhile, unless they come out the same.

    Raises
    ------
    ProductError
        if the disk refuses: the model is not replaced then, or the job that replaced it fails and is run again.
    """
    place = _place_of(folder, model, scope)
    kept = [] if place is None else [pair for path in outputs if (pair := _keep(folder, place, path))]
    yield
    for path, old in kept:
        with _archiving(old):
            if _digest(path) == _digest(old):
                old.unlink()
    if place is not None:
        _remove_empty(place)


def _place_of(folder: ModelDir, model: str, scope: str) -> Path | None:
    """Where the present model goes; None where there is none, or these are not the files of the chosen one."""
    try:
        description = read_description(folder.description)
        if description.find(description.chosen).key != (f"{model}/{scope}" if scope else model):
            return None
    except PipelineError:
        return None
    return _place(folder)


def _place(folder: ModelDir) -> Path:
    """The folder of the model that the present description tells of: a running number, and the digest of that."""
    digest = model_digest(folder.description)
    known = folder.archived()
    same = [p for p in known if p.name.endswith(f"_{digest}")]
    return same[0] if same else folder.archive(1 + max((int(p.name[:4]) for p in known), default=0), digest)


def _keep(folder: ModelDir, place: Path, path: Path) -> tuple[Path, Path] | None:
    """(file, its copy) of a file that is there and was not kept before: replaced files are new ones, so a second name
    for the old one costs no time."""
    copy = place / path.relative_to(folder.path)
    if not path.is_file() or copy.exists():
        return None
    with _archiving(copy):
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, copy)
        except OSError:  # a file system without second names; half a copy would be taken for the model
            with open(path, "rb") as source:
                replace_file(copy, partial(shutil.copyfileobj, source))
    return path, copy


@contextmanager
def _archiving(copy: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ProductError(
            f"the model that is replaced cannot be kept: {error.strerror or error}",
            where=copy,
            do="Check free space and permissions, then run again",
        ) from error


def model_digest(description: Path) -> str:
    """By which the archive tells models apart."""
    return _digest(description)[:8]


def _digest(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _remove_empty(place: Path) -> None:
    inside = sorted((Path(parent) for parent, _, _ in os.walk(place)), reverse=True)
    for folder in (*inside, place.parent):
        with suppress(OSError):  # not empty
            folder.rmdir()


def keep_description(folder: ModelDir) -> Path | None:
    """Called before the description is replaced: complete the archive of the model whose files were; its folder."""
    if not folder.description.is_file():
        return None
    place = _place(folder)
    if not place.is_dir():
        return None
    for path in (folder.description, folder.frames):
        _keep(folder, place, path)
    return place


@dataclass(frozen=True)
class ModelChange:
    """The present model against one that it replaced, where both hold: ratio of the signal of bulk and hot pixels, hot
    pixels by each (median + 5 robust sigma)."""

    temperature_c: float
    exposure_s: float
    chosen_before: str
    chosen: str
    bulk_ratio: float
    hot_ratio: float
    hot_before: int
    hot: int

    def describe(self) -> str:
        """In a line."""
        model = self.chosen if self.chosen == self.chosen_before else f"{self.chosen} instead of {self.chosen_before}"
        hot = f", of hot pixels x {self.hot_ratio:.3f}" if math.isfinite(self.hot_ratio) else ""
        return (
            f"{model}; at {self.temperature_c:g} C and {self.exposure_s:g} s the signal is x {self.bulk_ratio:.3f}"
            f"{hot}; {self.hot} hot pixels, {self.hot_before} before"
        )


def note_changes(folder: ModelDir, place: Path) -> None:
    """Write what the present model says otherwise than the one in `place`, beside the latter."""
    with suppress(ProductError):  # an archive that a crash left incomplete
        change = _changes(folder, ModelDir(place))
        replace_text(folder.changes(place), yaml.safe_dump(vars(change), sort_keys=False))


def _changes(now: ModelDir, before: ModelDir) -> ModelChange:
    (new, new_key), (old, old_key) = (_chosen(folder) for folder in (now, before))
    (t0, t1), (u0, u1) = new.model.temperature_c, old.model.temperature_c
    temperature = min(max(t0, u0, min(t1, u1)), t1)
    exposure = min(new.model.exposure_s[1], old.model.exposure_s[1])
    (s, _, dq), (r, error, old_dq) = (maps.synthesize(temperature, exposure) for maps in (new, old))
    if s.shape != r.shape:
        raise ProductError("the models are of different shapes", where=before.path)
    valid = ((dq | old_dq) & int(MODEL_INVALID)) == 0
    hot, was_hot = (valid & (v > _threshold(v[valid])) for v in (s, r))
    bulk = valid & ~hot & ~was_hot
    found = compare_cell(s.ravel(), r.ravel(), np.fmax(error, 1e-6).ravel(), bulk.ravel(), was_hot.ravel())
    middle = found.difference_adu / found.bulk_signal_adu if found.bulk_signal_adu else math.nan
    return ModelChange(
        float(temperature),
        float(exposure),
        old_key,
        new_key,
        round(1.0 + middle, 5),
        round(1.0 + found.hot_change, 5),
        int(was_hot.sum()),
        int(hot.sum()),
    )


def _chosen(folder: ModelDir) -> tuple[ModelMaps, str]:
    description = read_description(folder.description)
    key = description.chosen
    return read_maps(folder, description.find(key)), key


def _threshold(signal: Any) -> float:
    return robust_median(signal) + HOT_SIGMA * robust_sigma(signal)


def last_change(folder: ModelDir) -> ModelChange | None:
    """What the last refit changed; None where no model was replaced yet."""
    for place in reversed(folder.archived()):
        path = folder.changes(place)
        if path.is_file():
            with suppress(OSError, ValueError, TypeError):
                return ModelChange(**plain_yaml.load(read_text(path)))
    return None
