"""A client that speaks bare Alpaca to camera 0 of a server, good manners or bad."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import numpy as np
import requests
from numpy.typing import NDArray

IMAGE_BYTES = {"Accept": "application/imagebytes"}
DEADLINE_S = 10.0


class RawCamera:
    """Requests as they are written, answers as they come."""

    def __init__(self, address: str) -> None:
        self.server = f"http://{address}"
        self.base = f"{self.server}/api/v1/camera/0/"
        self.session = requests.Session()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close()

    def get(self, member: str, headers: dict[str, str] | None = None, **parameters: Any) -> requests.Response:
        return self.session.get(self.base + member, params=parameters, headers=headers, timeout=DEADLINE_S)

    def put(self, member: str, **parameters: Any) -> requests.Response:
        return self.session.put(self.base + member, data=parameters, timeout=DEADLINE_S)

    def value(self, member: str) -> Any:
        """What a property says; no error is expected."""
        answer = self.get(member).json()
        assert answer["ErrorNumber"] == 0, (member, answer)
        return answer["Value"]

    def error(self, member: str) -> int:
        """Error number of reading a property, 0 if there is none."""
        return int(self.get(member).json()["ErrorNumber"])

    def write(self, member: str, **parameters: Any) -> int:
        """Error number of a PUT, 0 if there is none."""
        answer = self.put(member, **parameters)
        assert answer.status_code == 200, (member, answer.text)
        return int(answer.json()["ErrorNumber"])

    def connect(self) -> None:
        assert self.write("connected", Connected="true") == 0

    def expose(self, seconds: float, light: bool = False) -> None:
        """An exposure, and the wait for its image."""
        assert self.write("startexposure", Duration=seconds, Light=light) == 0
        wait_for(lambda: self.value("imageready"))

    def image(self) -> NDArray[np.uint16]:
        """The image (rows, cols), by ImageBytes."""
        content = self.get("imagearray", IMAGE_BYTES).content
        header = np.frombuffer(content, "<i4", 11)
        assert header[1] == 0, content[44:]
        assert (header[0], header[4], header[5], header[6], header[7], header[10]) == (1, 44, 2, 8, 2, 0)
        pixels: NDArray[np.uint16] = np.frombuffer(content, "<u2", offset=44).reshape(header[8], header[9]).T
        return pixels


def wait_for(happened: Callable[[], bool]) -> None:
    """Ask until it happened; a failure after ten seconds."""
    end = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)
