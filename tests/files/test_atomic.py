"""Whole files or none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import xxhash

from darkpipe.errors import ProductError
from darkpipe.files import atomic
from darkpipe.files.atomic import DRAFT_SUFFIX, file_digest, remove_drafts, replace_file, replace_text, sync


def writer(content: bytes) -> Callable[[BinaryIO], None]:
    def write(stream: BinaryIO) -> None:
        stream.write(content)

    return write


def test_a_file_is_made_with_its_folders_and_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.bin"
    digest = replace_file(path, writer(b"content"))
    assert path.read_bytes() == b"content"
    assert digest == xxhash.xxh3_128_hexdigest(b"content") == file_digest(path)
    assert [p.name for p in path.parent.iterdir()] == ["c.bin"]


@pytest.mark.parametrize("name", ["a" * 255, "b" * 201, "ä" * 127, "日" * 85, "c" * 200 + ".fits"])
def test_a_file_may_have_the_longest_name_that_there_is(tmp_path: Path, name: str) -> None:
    """Its draft has one too; what kills a run must leave it under a name that the next one knows."""
    path, seen = tmp_path / name, list[str]()
    try:
        path.touch()
    except OSError:
        pytest.skip("names are shorter on this file system")

    def write(stream: BinaryIO) -> None:
        seen.extend(found for found in os.listdir(tmp_path) if found != name)
        stream.write(b"content")

    replace_file(path, write)
    assert path.read_bytes() == b"content"
    (tmp_path / seen[0]).touch()
    remove_drafts(tmp_path)
    assert os.listdir(tmp_path) == [name]


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a much longer old content")
    replace_file(path, writer(b"new"))
    assert path.read_bytes() == b"new"


def test_the_digest_is_that_of_the_file_even_after_seeking(tmp_path: Path) -> None:
    def write(stream: BinaryIO) -> None:
        stream.write(b"....tail")
        stream.seek(0)
        stream.write(b"head")

    digest = replace_file(tmp_path / "x", write)
    assert (tmp_path / "x").read_bytes() == b"headtail"
    assert digest == xxhash.xxh3_128_hexdigest(b"headtail")


@pytest.mark.parametrize("how", ["plain", "tofile", "savez", "truncate"])
def test_the_digest_is_that_of_the_file_however_it_is_written(tmp_path: Path, how: str) -> None:
    numbers = np.arange(100_000, dtype=np.int32)

    def write(stream: BinaryIO) -> None:
        stream.write(b"head")
        if how == "plain":
            for k in range(0, numbers.size, 777):
                stream.write(memoryview(numbers[k : k + 777]).cast("B"))
        elif how == "tofile":
            stream.flush()
            numbers.tofile(stream)
        elif how == "savez":
            np.savez(stream, numbers=numbers)
        else:
            stream.write(b"more")
            stream.truncate(2)

    digest = replace_file(tmp_path / "x", write)
    content = (tmp_path / "x").read_bytes()
    assert digest == xxhash.xxh3_128_hexdigest(content)
    assert len(content) == 2 if how == "truncate" else content.startswith(b"head")


def test_a_reader_never_meets_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def write(stream: BinaryIO) -> None:
        stream.write(b"half")
        stream.flush()
        assert path.read_bytes() == b"old"
        drafts = [p for p in tmp_path.iterdir() if p.name.endswith(DRAFT_SUFFIX)]
        assert len(drafts) == 1
        assert drafts[0].name.startswith(".x.")

    replace_file(path, write)


def test_a_failing_writer_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def write(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        replace_file(path, write)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_a_product_error(tmp_path: Path) -> None:
    def write(stream: BinaryIO) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ProductError, match="No space left on device"):
        replace_file(tmp_path / "x", write)
    assert list(tmp_path.iterdir()) == []


def test_a_blocked_replace_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, real = [], os.replace

    def replace(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) < 3:
            raise PermissionError(13, "held by a viewer")
        real(source, target)

    monkeypatch.setattr(atomic.os, "replace", replace)
    monkeypatch.setattr(atomic.time, "sleep", lambda seconds: None)
    replace_file(tmp_path / "x", writer(b"new"))
    assert (tmp_path / "x").read_bytes() == b"new"
    assert len(calls) == 3


def test_a_replace_blocked_for_good_is_a_product_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(source: Path, target: Path) -> None:
        raise PermissionError(13, "held by a viewer")

    waited: list[float] = []
    monkeypatch.setattr(atomic.os, "replace", replace)
    monkeypatch.setattr(atomic.time, "sleep", waited.append)
    with pytest.raises(ProductError, match="held by a viewer") as caught:
        replace_file(tmp_path / "x", writer(b"new"))
    assert caught.value.where == str(tmp_path / "x")
    assert 1.0 < sum(waited) < 10.0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_a_product_error(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(ProductError):
        replace_file(tmp_path / "x", writer(b"new"))
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_file_where_a_folder_should_be_is_a_product_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(ProductError):
        replace_file(tmp_path / "x" / "y", writer(b"new"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name are those of Unix")
def test_devices_and_pipes_are_no_files(tmp_path: Path) -> None:
    pipe, device, standard, file = (tmp_path / name for name in ("pipe", "device", "standard", "file"))
    os.mkfifo(pipe)
    device.symlink_to("/dev/null")
    standard.symlink_to("/proc/self/fd/1")  # as /dev/stdout is
    before = {path: path.lstat() for path in (pipe, device, standard)}
    for path in before:
        with pytest.raises(ProductError, match="a device or pipe cannot be replaced by a file"):
            replace_text(path, "text")
    assert {path: path.lstat() for path in before} == before
    assert set(tmp_path.iterdir()) == set(before)  # no draft
    for target in (tmp_path / "elsewhere", tmp_path / "nowhere"):
        (tmp_path / "elsewhere").write_text("theirs")
        file.unlink(missing_ok=True)
        file.symlink_to(target)
        replace_text(file, "ours")
        assert not file.is_symlink()  # a link to a file, or to nothing, is replaced and not followed
        assert (tmp_path / "elsewhere").read_text() == "theirs"


def test_text_is_utf8_with_its_own_line_ends(tmp_path: Path) -> None:
    digest = replace_text(tmp_path / "x", "°C\nµ\n")
    assert (tmp_path / "x").read_bytes() == b"\xc2\xb0C\n\xc2\xb5\n"
    assert digest == file_digest(tmp_path / "x")


def test_digest_of_a_large_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000
    (tmp_path / "x").write_bytes(content)
    assert file_digest(tmp_path / "x") == xxhash.xxh3_128_hexdigest(content)
    with pytest.raises(FileNotFoundError):
        file_digest(tmp_path / "gone")


def test_sync_reaches_files_and_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / "a" / "1", tmp_path / "a" / "2", tmp_path / "b" / "3"]
    for path in paths:
        replace_text(path, "x")
    synced: list[int] = []
    monkeypatch.setattr(atomic.os, "fsync", synced.append)
    sync(iter(paths))
    assert len(synced) == (3 if os.name == "nt" else 5)


def test_sync_of_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ProductError, match="gone"):
        sync([tmp_path / "gone"])


def test_sync_of_nothing() -> None:
    sync([])


def test_drafts_of_crashed_runs_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    stay = ["x.fits", ".hidden", "x.draft", ".x.draft", ".notes.1.draft", "sub/.x.fits.draft.txt"]
    go = [".x.fits.123-0.draft", "sub/.y.fits.99999-17.draft"]
    for name in stay + go:
        (tmp_path / name).write_bytes(b"")
    assert remove_drafts(tmp_path) == 2
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == sorted(stay)
    assert remove_drafts(tmp_path / "nowhere") == 0


def test_the_names_of_drafts_are_those_that_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(stream: BinaryIO) -> None:
        monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(tmp_path / "x.fits", crash)
    monkeypatch.undo()
    assert remove_drafts(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []
