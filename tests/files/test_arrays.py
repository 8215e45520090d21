"""Files of arrays are numbers, of the size of the file, or are refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from darkpipe.errors import ProductError
from darkpipe.files.arrays import read_arrays, write_arrays
from darkpipe.files.atomic import file_digest


def refused(path: Path) -> str:
    with pytest.raises(ProductError, match="a tile cannot be read") as caught:
        read_arrays(path, "a tile", "run step 5 again")
    assert caught.value.do == "run step 5 again"
    return caught.value.what


def test_arrays_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(6).reshape(2, 3), b=np.array(2.5))
    found = read_arrays(path, "a tile", "")
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert float(found["b"]) == 2.5


class Bomb:
    """Would write a file if it were unpickled."""

    place: Path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.place,))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    Bomb.place = tmp_path / "pwned"
    path = tmp_path / "a.npz"
    np.savez(path, a=np.array([Bomb()], dtype=object))
    assert "allow_pickle" in refused(path)
    plain = tmp_path / "b.npz"
    with open(plain, "wb") as stream:
        np.save(stream, np.array([Bomb()], dtype=object), allow_pickle=True)
    refused(plain)
    assert not Bomb.place.exists()


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x04K\x01.", b"no numbers", b"\x93NUMPY\x01\x00"])
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    refused(path)


def test_a_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(1000.0))
    whole = path.read_bytes()
    for length in (1, 30, 200, 4000, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path)


def test_a_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros(10**7))
    assert path.stat().st_size < 200_000
    assert "compressed" in refused(path)


def test_a_header_that_promises_more_than_there_is(tmp_path: Path) -> None:
    for shape in ("(1000000000000,)", "(-5,)", "'a'", "(" * 50):
        part = io.BytesIO()
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
        part.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        path = tmp_path / "a.npz"
        with zipfile.ZipFile(path, "w") as parts:
            parts.writestr("a.npy", part.getvalue())
        refused(path)
    assert "cannot be read" in refused(tmp_path / "missing.npz")


def test_what_is_written_is_read_and_has_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    given = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array(2.5),
        "c": np.arange(12).reshape(3, 4)[:, ::2],
        "none": np.empty((0, 3), np.uint16),
    }
    assert write_arrays(path, given) == file_digest(path)
    for found in (read_arrays(path, "a tile", ""), dict(np.load(path))):
        assert list(found) == list(given)
        for name, array in given.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
            assert found[name].shape == array.shape


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, {"a": np.zeros(1000, np.float32)})
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    assert "CRC" in refused(path)


def test_arrays_are_put_where_they_are_wanted(tmp_path: Path) -> None:
    path, room = tmp_path / "a.npz", np.zeros((2, 3), np.float32)
    write_arrays(path, {"a": np.arange(3, dtype=np.float32), "b": np.ones(3, np.float32), "c": np.zeros(9)})
    found = read_arrays(path, "a tile", "", ("b",), lambda name, shape, kind: room[1])
    assert list(found) == ["b"]
    assert room.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_arrays_of_columns_are_read(tmp_path: Path) -> None:
    path, given = tmp_path / "a.npz", np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.savez(path, a=given)
    assert read_arrays(path, "a tile", "")["a"].tolist() == given.tolist()
