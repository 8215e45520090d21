"""What a report tells of many failures."""

from __future__ import annotations

import pytest

from darkpipe.errors import FrameError, PipelineError, ProductError
from darkpipe.jobs.report import TOLD_EACH, Failure, RunReport


def failure(number: int, error: PipelineError) -> Failure:
    return Failure("export_library", "gain100", f"dark {number}", error)


def full(number: int) -> PipelineError:
    return ProductError("cannot write the file: No space left on device", where=f"dark_{number}.fits", do="Make room")


def test_failures_of_one_cause_are_told_once_with_their_number(caplog: pytest.LogCaptureFixture) -> None:
    report = RunReport("export_library")
    other = failure(7, FrameError("cannot write the file: No space left on device", where="x"))  # another class
    report.fail_all([failure(n, full(n)) for n in range(5)] + [other] + [failure(n, full(n)) for n in range(10, 25)])
    assert caplog.messages == [
        str(failure(0, full(0))),
        "gain100: export_library: 19 more failed alike: dark 1 to dark 24",
        str(other),
    ]
    assert "dark_0.fits" in caplog.messages[0]
    assert len(report.failures) == 21  # all of them are in the report
    assert report.exit_code == 1


def test_a_few_are_told_each(caplog: pytest.LogCaptureFixture) -> None:
    report = RunReport("export_library")
    report.fail_all([failure(n, full(n)) for n in range(TOLD_EACH)])
    assert caplog.messages == [str(failure(n, full(n))) for n in range(TOLD_EACH)]
    report.fail_all([])
    assert len(report.failures) == TOLD_EACH
