"""Which frames a model has not seen, and whether it is still the model that saw the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from darkpipe.files.index import read_frames, write_index
from darkpipe.files.products import Frame, write_frame
from darkpipe.files.seen_frames import checksum, has_unseen, read_temperatures, write_seen, write_unseen

FITTED = [(-10.0, 0.1, 3), (0.0, 0.2, 2)]
NUMBERS = (
    *(
        "set_point_c",
        "rows",
        "cols",
        "hdu",
        "pedestal_adu",
        "egain_e_per_adu",
        "saturation_raw",
        "maximum_raw",
        "n_low",
    ),
    *("n_high", "divisor", "median_raw", "sigma_raw", "corner_tl_raw", "corner_tr_raw", "corner_bl_raw"),
    "corner_br_raw",
)


def frame(number: int, status: str = "accepted", campaign: str = "") -> dict[str, object]:
    row: dict[str, object] = {"file": f"{number}.fits", "status": status, "kind": "dark", "campaign": campaign}
    row |= {"configuration": "c", "camera": "", "exposure_s": 1.0, "temperature_c": 0.0, "date_obs": "2025-01-01"}
    return row | dict.fromkeys(NUMBERS, 1) | {"digest": f"{number:032x}"}


def model(folder: Path) -> list[Path]:
    files = [folder / "a.fits", folder / "model.yaml"]
    write_frame(files[0], Frame(np.ones((4, 5), np.float32)))
    files[1].write_text("chosen: a\n")
    return files


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    path = tmp_path / "model" / "frames.ecsv"
    path.parent.mkdir()
    rows = [[f"{n}.fits", "2025-01-01", f"{n:032x}"] for n in (1, 2)]
    write_seen(path, rows, model(path.parent), FITTED)
    return path


def index(folder: Path, *rows: dict[str, object]) -> Path:
    write_index(folder / "index.ecsv", rows, "raw")
    return folder / "index.ecsv"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([frame(1), frame(2)], False),
        ([frame(2)], False),
        ([{**frame(1), "file": "elsewhere/renamed.fits"}], False),
        ([frame(1), frame(3, "rejected")], False),
        ([frame(1), frame(3, campaign="another")], False),
        ([frame(1), frame(3)], True),
    ],
)
def test_a_frame_is_known_by_its_content(
    tmp_path: Path, seen: Path, rows: list[dict[str, object]], expected: bool
) -> None:
    assert has_unseen(index(tmp_path, *rows), "", seen) is expected


def test_a_model_that_is_half_replaced_is_not_asked(tmp_path: Path, seen: Path) -> None:
    table = index(tmp_path, frame(3))
    assert has_unseen(table, "", seen)
    kept = (seen.parent / "a.fits").read_bytes()
    write_frame(seen.parent / "a.fits", Frame(np.full((4, 5), 2, np.float32)))
    assert not has_unseen(table, "", seen)
    (seen.parent / "a.fits").write_bytes(kept)
    assert has_unseen(table, "", seen)
    (seen.parent / "model.yaml").write_text("chosen: b\n")
    assert not has_unseen(table, "", seen)
    (seen.parent / "model.yaml").unlink()
    assert not has_unseen(table, "", seen)


def test_a_model_of_which_nothing_is_known(tmp_path: Path, seen: Path) -> None:
    table = index(tmp_path, frame(3))
    assert not has_unseen(table, "", tmp_path / "no.ecsv")
    assert read_temperatures(tmp_path / "no.ecsv") == []
    seen.write_text("no table")
    assert not has_unseen(table, "", seen)
    assert read_temperatures(seen) == []


def test_the_new_ones_are_the_same_files_from_another_place(tmp_path: Path, seen: Path) -> None:
    table = index(tmp_path, frame(1, campaign="c"), frame(3, campaign="c"), frame(4, campaign="d"))
    target = tmp_path / "c" / "new_frames" / "index.ecsv"
    write_unseen(target, table, "c", seen)
    (new,) = read_frames(target, "")
    (_, old) = read_frames(table, "c")
    assert new == old
    assert new.path == tmp_path / "raw" / "3.fits"


def test_a_checksum_needs_no_plane(tmp_path: Path) -> None:
    path, *_ = model(tmp_path)
    before = checksum(path)
    write_frame(path, Frame(np.full((4, 5), 2, np.float32)))
    assert checksum(path) != before
    assert read_temperatures(tmp_path / "x") == []


def test_temperatures_come_back(seen: Path) -> None:
    assert read_temperatures(seen) == FITTED
