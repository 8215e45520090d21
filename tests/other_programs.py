"""Programs of others that tests run, where they are installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

TOP = 65535.0


def program(name: str, package: str) -> str:
    """The path of a program; the test is skipped, saying what to install, where it is missing."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install {package})")
    return path


def fitsverify(files: Iterable[Path]) -> list[str]:
    """What fitsverify has to say of files besides that they are right: errors, and warnings too."""
    paths = [str(path) for path in files]
    assert paths
    said = subprocess.run(
        [program("fitsverify", "fitsverify"), "-q", *paths], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    right = [line for line in said if line.startswith("verification OK")]
    assert len(right) <= len(paths)
    wrong = [line for line in said if line and not line.startswith("verification OK")]
    assert len(right) == len(paths) or wrong
    return wrong


class Siril:
    """siril-cli with a home and a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = program("siril-cli", "siril")
        self.folder, self.home = folder / "frames", folder / "home"
        self.folder.mkdir(parents=True)
        self.home.mkdir()
        self.environment = {**os.environ, "HOME": str(self.home)}
        for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
            self.environment.pop(name, None)
        said = subprocess.run(
            [self.path, "--version"], capture_output=True, text=True, check=False, env=self.environment
        )
        found = re.search(r"(\d+)\.(\d+)", said.stdout)
        if said.returncode or found is None:
            pytest.skip(f"siril-cli does not run here: {said.stderr.strip()}")
        self.version = int(found[1]), int(found[2])

    @property
    def calibrate(self) -> str:
        """The command, which had another name once."""
        return "calibrate" if self.version >= (1, 2) else "preprocess"

    def put(self, name: str, image: np.ndarray) -> None:
        """A frame in the folder."""
        fits.PrimaryHDU(image).writeto(self.folder / f"{name}.fit")

    def run(self, *commands: str) -> None:
        """Run commands in the folder."""
        script = self.folder.parent / "script.ssf"
        script.write_text("\n".join(("requires 1.0.0", f"cd {self.folder}", *commands)) + "\n")
        said = subprocess.run(
            [self.path, "-s", str(script)], capture_output=True, text=True, check=False, env=self.environment
        )
        assert said.returncode == 0, said.stdout[-2000:] + said.stderr[-2000:]

    def counts(self, name: str) -> np.ndarray:
        """A frame that Siril wrote, in counts, whatever it writes."""
        image = fits.getdata(self.folder / f"{name}.fit")
        return np.asarray(image, float) * (TOP if image.dtype.kind == "f" else 1.0)
