"""Rights of what a run makes are those that the umask leaves: products, drafts, logs, journals and locks alike."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from helpers import PLAIN, Campaign, command, environment, flags, write_yaml

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a umask is of Unix")
FILE, FOLDER = 0o666, 0o777


def rights(folder: Path, found: dict[str, int]) -> None:
    """Of everything that is below a folder at this moment; its name with what kind of a thing it is."""
    for path in (folder, *folder.rglob("*")):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        kind = "folder" if stat.S_ISDIR(status.st_mode) else "file"
        found[f"{kind} {path.relative_to(folder)}"] = stat.S_IMODE(status.st_mode)


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o002, 0o000], ids=oct)
def test_rights_are_those_that_the_umask_leaves(plain: Campaign, tmp_path: Path, umask: int) -> None:
    campaign = plain.copied_to(tmp_path / "campaign")
    campaign.out.rename(tmp_path / "aside")
    config = write_yaml(campaign.root / "plain.yaml", {**PLAIN, "report": {"write": True}})
    line = command(*flags(campaign, "full", "--quiet", "--config", str(config)))
    found: dict[str, int] = {}
    with subprocess.Popen(line, env=environment(), umask=umask) as process:
        ended = threading.Event()
        while not ended.wait(0.005):
            rights(campaign.out, found)
            if process.poll() is not None:
                ended.set()
    assert process.returncode == 0
    rights(campaign.out, found)
    assert any(name.endswith(".draft") for name in found)
    wrong = {
        name: oct(mode)
        for name, mode in found.items()
        if mode != (FOLDER if name.startswith("folder") else FILE) & ~umask
    }
    assert wrong == {}
