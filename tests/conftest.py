"""What all tests share: where the real frames are, and one small campaign with its products."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import raised_messages
from em_folder import EmFolder, make_em_folder
from helpers import CAMPAIGN, PICTURES, Campaign, make_campaign, run_well
from hypothesis import settings

settings.register_profile("darkpipe", deadline=None)  # machines of a busy team are slow at times
settings.load_profile("darkpipe")


def pytest_addoption(parser: pytest.Parser) -> None:
    raised_messages.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # what a shell starts in the background, and all below it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    raised_messages.configure(config)


def real_data_root() -> Path:
    """DARKPIPE_REAL_DATA if set, else ../shared/data beside the checkout."""
    named = os.environ.get("DARKPIPE_REAL_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real frames; the test is skipped, saying so, where they are absent."""
    root = real_data_root()
    if not root.is_dir():
        pytest.skip(f"real frames are absent: no folder {root} (set DARKPIPE_REAL_DATA)")
    return root


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """The small campaign after a full run with pictures; to be read, not changed."""
    campaign = make_campaign(tmp_path_factory.mktemp("finished"), CAMPAIGN, defects=True)
    run_well(campaign, evaluate_model=PICTURES)
    return campaign


@pytest.fixture(scope="session")
def plain(finished: Campaign, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """The same without the pictures of each cell, which cost most of the time; to be read, not changed."""
    campaign = finished.copied_to(tmp_path_factory.mktemp("plain") / "campaign")
    run_well(campaign)
    return campaign


@pytest.fixture(scope="session")
def reported(finished: Campaign, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """The campaign with pictures and its report; to be read, not changed."""
    campaign = finished.copied_to(tmp_path_factory.mktemp("reported") / "campaign")
    run_well(campaign, evaluate_model=PICTURES, report={"write": True})
    return campaign


@pytest.fixture
def work(plain: Campaign, tmp_path: Path) -> Campaign:
    """A copy of the plain campaign that a test may change; nothing in it is stale."""
    return plain.copied_to(tmp_path / "work")


@pytest.fixture(scope="session")
def em_plain(tmp_path_factory: pytest.TempPathFactory) -> EmFolder:
    """EM-CCD frames with their traditional darks and noise maps; to be read, not changed."""
    folder = make_em_folder(tmp_path_factory.mktemp("em_ccd") / "campaign")
    folder.run_well("traditional_dark")
    folder.run_well("fit_noise_maps", fit_noise_maps={"k_gain_e_per_dn": 7.0})
    return folder


@pytest.fixture
def em_work(em_plain: EmFolder, tmp_path: Path) -> EmFolder:
    """A copy of it that a test may change."""
    return em_plain.copied_to(tmp_path / "campaign")
