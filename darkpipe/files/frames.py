"""Raw frames in: which files are frames, what each holds, and many of them as one stack."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from pathlib import Path

from darkpipe.errors import FrameError, SettingsError
from darkpipe.files.stack import FrameStack, RawSource
from darkpipe.files.survey import FrameSurvey, survey_frame

__all__ = [
    "FrameStack",
    "FrameSurvey",
    "RawSource",
    "find_frames",
    "frames_beside",
    "name_fault",
    "shown_name",
    "survey_frame",
]

_LOG = logging.getLogger(__name__)
_FRAME_NAME = re.compile(r".\.(?:(?:fit|fits|fts)(?:\.(?:gz|fz))?|xisf)$", re.IGNORECASE)


def find_frames(root: Path, without: Path | None = None) -> list[Path]:
    """All files under a folder whose names are those of frames, sorted.

    ``*.fit``, ``*.fits``, ``*.fts`` in any case, also with ``.gz`` or ``.fz``; ``*.xisf`` too, so that the survey
    refuses it with advice. Links are followed; a folder or file that is reached twice is listed once, by its real
    place if that is under the root. Hidden names (a leading dot, so drafts too) are passed over. Links that lead
    nowhere are listed, so that the survey says so; folders that cannot be read are logged as warnings, and so are names
    that are no text.

    without : a folder that is passed over, however it is reached: by a link, or where it is mounted a second time.

    Raises
    ------
    FrameError : the root is missing or cannot be read.
    """
    root = Path(root)
    if not _is_text(os.fspath(root)):
        raise FrameError("the name of this folder is no text in UTF-8", where=root, do="Rename it.")
    try:
        os.listdir(root)
    except OSError as error:
        raise FrameError(f"the folder cannot be read: {error.strerror}", where=root, do="Check the path.") from error
    files: list[Path] = []
    links: list[Path] = []
    own = None if without is None else _identity(without)
    waiting, visited = [root], set() if own is None else {own}
    while waiting:
        linked_folders: list[Path] = []
        for folder in waiting:
            _walk(folder, visited, files, links, linked_folders)
        waiting = sorted(linked_folders)  # real folders first: they name their frames
    seen = {key for path in files if (key := _identity(path))}
    for path in sorted(links):
        key = _identity(path)
        if key is None or key not in seen:
            files.append(path)
        if key is not None:
            seen.add(key)
    return sorted(files, key=lambda path: path.relative_to(root).parts)


def name_fault(name: str) -> str:
    """Why a file cannot be taken under its name; '' if it can.

    A table keeps neither blanks in front nor line ends, and some characters would steer a terminal.
    """
    if name == name.strip() and all(map(_is_plain, name)):
        return ""
    return "its name holds blanks in front, or characters that no table keeps. Rename the file."


def shown_name(name: str) -> str:
    """A name of a file for a table or a message: what it cannot hold stands as an escape."""
    text = "".join(c if _is_plain(c) else ascii(c)[1:-1] for c in name)
    return text if text == text.strip() else ascii(text)


def _is_plain(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def frames_beside(what: str, folder: Path, output: Path) -> list[Path]:
    """What `find_frames` finds, but for the output directory where that stands inside of the folder.

    Parameters
    ----------
    what : kind of the frames, for the message.

    Raises
    ------
    SettingsError
        when both are one folder.
    """
    own, raw = _identity(output), _identity(folder)
    if own is not None and own == raw:  # by whatever names: one may be a link, or be mounted twice
        raise SettingsError(f"this is the folder of the {what}", where=output, do="choose another --output_dir")
    return find_frames(folder, without=output)


def _walk(
    top: Path, visited: set[tuple[int, int]], files: list[Path], links: list[Path], linked_folders: list[Path]
) -> None:
    """List the frames of a folder and its real sub-folders; links are put aside."""
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        key = _identity(folder)
        if key is None or key in visited:
            continue
        visited.add(key)
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            _LOG.warning("folder left out, it cannot be read: %s (%s)", shown_name(str(folder)), error.strerror)
            continue
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            if not _is_text(entry.name):
                _LOG.warning("left out, its name is no text in UTF-8: %s. Rename it", shown_name(str(path)))
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            elif entry.is_symlink() and path.is_dir():
                linked_folders.append(path)
            elif _FRAME_NAME.search(entry.name):
                (links if entry.is_symlink() else files).append(path)


def _is_text(name: str) -> bool:
    """Whether a name can be written into a table: one of another encoding cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _identity(path: Path) -> tuple[int, int] | None:
    """What a path really is; None if it leads nowhere."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
