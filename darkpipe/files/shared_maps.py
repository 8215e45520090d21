"""Maps of a model that many jobs of one process ask for at the same time: read once, and held as long as they run.

A model of a small sensor fits into memory, and a campaign holds dozens of masters against it; of a large sensor each
reader takes the bands that it needs from the disk, or from what the system keeps of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import numpy as np

from darkpipe.files.ahead import each_ahead
from darkpipe.files.bands import rows_of
from darkpipe.files.layout import ModelDir
from darkpipe.files.model_maps import FittedModel, ModelMaps, read_maps
from darkpipe.files.products import read_shape
from darkpipe.files.thread_memory import ThreadMemory
from darkpipe.same_file import identity_if_there

MOST_BYTES = 256 << 20  # of all maps that are held
BYTES_A_PIXEL = 42  # of a model: parameters, covariance, bits, level of saturation

_MEMORY = ThreadMemory()  # of the band that a thread reads
_Key = tuple[object, ...]


class _Shelf:
    """Whole maps, oldest first, and for how many users."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # held while maps are read: who waits for it mostly wants the same ones
        self.users = 0
        self.held: dict[_Key, ModelMaps] = {}

    def take(self, key: _Key, folder: ModelDir, model: FittedModel, shape: tuple[int, int]) -> ModelMaps:
        size = BYTES_A_PIXEL * prod(shape)
        with self.lock:
            maps = self.held.pop(key, None) or _read_whole(folder, model, shape)
            while self.held and sum(_bytes(m) for m in self.held.values()) + size > MOST_BYTES:
                del self.held[next(iter(self.held))]
            if self.users:
                self.held[key] = maps
            return maps


_shelf = _Shelf()


@contextmanager
def maps_shared() -> Iterator[None]:
    """Hold what `maps_of` reads until the end of this, in this process; others read bands."""
    with _shelf.lock:
        _shelf.users += 1
    try:
        yield
    finally:
        with _shelf.lock:
            _shelf.users -= 1
            if not _shelf.users:
                _shelf.held.clear()


def maps_of(folder: ModelDir, model: FittedModel, rows: slice) -> ModelMaps:
    """The same as `read_maps`, for reading alone: rows of maps that are shared, if they are and fit into memory.

    Raises
    ------
    ProductError
        when a map is missing or damaged.
    """
    if not _shelf.users:
        return read_maps(folder, model, rows)
    files = [*folder.maps(model.name, model.cell).values(), folder.covariance(model.name, model.cell)]
    shape = read_shape(files[0])
    if BYTES_A_PIXEL * prod(shape) > MOST_BYTES:
        return read_maps(folder, model, rows)
    files += [folder.hot_pixel_mask, folder.saturation_map]
    key = tuple((path, identity_if_there(path)) for path in files)
    return _shelf.take((key, model), folder, model, shape).band(rows)


def _read_whole(folder: ModelDir, model: FittedModel, shape: tuple[int, int]) -> ModelMaps:
    """All rows, by two threads: whoever wants these maps waits for them, and to fill new memory takes longer than to
    read what the system keeps."""
    parameters, covariance = np.empty((3, *shape), np.float32), np.empty((6, *shape), np.float32)
    dq, level = np.empty(shape, np.uint16), np.empty(shape, np.float32)
    bands = rows_of(shape, BYTES_A_PIXEL)

    def fill(rows: slice) -> np.float32 | None:
        """Read some rows; returns the level of saturation where all of their pixels have one."""
        found = read_maps(folder, model, rows, _MEMORY)
        parameters[:, rows], covariance[:, rows], dq[rows] = found.parameters, found.covariance, found.dq
        same = not any(found.saturation_adu.strides)
        if not same:
            level[rows] = found.saturation_adu
        return np.float32(found.saturation_adu[0, 0]) if same else None

    common = list(each_ahead(fill, bands, threads=2))
    if len(known := set(common)) == 1 and (value := known.pop()) is not None:
        return ModelMaps(model, parameters, covariance, dq, np.broadcast_to(value, shape))
    for rows, number in zip(bands, common, strict=True):
        if number is not None:
            level[rows] = number
    return ModelMaps(model, parameters, covariance, dq, level)


def _bytes(maps: ModelMaps) -> int:
    return BYTES_A_PIXEL * maps.dq.size
