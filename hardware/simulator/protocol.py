"""The words of ASCOM Alpaca: error numbers, states, parameters as text, answers as JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

NOT_IMPLEMENTED = 0x400
INVALID_VALUE = 0x401
NOT_CONNECTED = 0x407
INVALID_OPERATION = 0x40B
ACTION_NOT_IMPLEMENTED = 0x40C
DRIVER_ERROR = 0x500

IDLE, WAITING, EXPOSING, READING, DOWNLOAD, ERROR = range(6)
MONOCHROME, COLOR, RGGB = range(3)

HIGHEST_ID = 2**32 - 1
MOST_PARAMETERS = 100
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


class AlpacaError(Exception):
    """The device refuses; travels inside an answer of HTTP status 200.

    number : of the protocol, e.g. `INVALID_VALUE`. message : for people.
    """

    def __init__(self, number: int, message: str) -> None:
        self.number, self.message = number, message
        super().__init__(f"0x{number:X}: {message}")


class BadRequestError(Exception):
    """The request itself is no Alpaca request; answered with an HTTP status and plain text."""

    def __init__(self, message: str, status: int = 400) -> None:
        self.message, self.status = message, status
        super().__init__(message)


def invalid(message: str) -> AlpacaError:
    """A value the device cannot take."""
    return AlpacaError(INVALID_VALUE, message)


def not_implemented(name: str) -> AlpacaError:
    """A member that this camera does not have."""
    return AlpacaError(NOT_IMPLEMENTED, f"{name} is not implemented in this camera")


def boolean(name: str, text: str) -> bool:
    """'true' or 'false' in any case. Raises `BadRequestError` for all else."""
    known = {"true": True, "false": False}
    if text.lower() not in known:
        raise BadRequestError(f"{name} must be true or false, not '{text}'")
    return known[text.lower()]


def integer(name: str, text: str) -> int:
    """A whole number. Raises `BadRequestError` for all else."""
    if not WHOLE_NUMBER.fullmatch(text):
        raise BadRequestError(f"{name} must be a whole number, not '{text}'")
    return int(text)


def number(name: str, text: str) -> float:
    """A finite number with a decimal point. Raises `BadRequestError` for all else."""
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadRequestError(f"{name} must be a number, not '{text}'")
    return value


def words(name: str, text: str) -> str:
    """Any text."""
    return text


class Parameters:
    """What a request brings along. In the address (GET) names may have any case; in the body (PUT) they may not.

    Raises
    ------
    BadRequestError
        if it is no form, or an identifier is no unsigned 32-bit number.
    """

    def __init__(self, encoded: bytes, *, any_case: bool) -> None:
        try:
            text = encoded.decode("utf-8")
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_PARAMETERS, errors="strict")
        except ValueError as error:
            raise BadRequestError(f"the parameters cannot be read: {error}") from None
        self._any_case = any_case
        self._values = {self._key(name): value for name, value in pairs}
        self.client_id = self._identifier("ClientID")
        self.client_transaction_id = self._identifier("ClientTransactionID")

    def _key(self, name: str) -> str:
        return name.lower() if self._any_case else name

    def text(self, name: str) -> str:
        """The value of a parameter. Raises `BadRequestError` if it is not there."""
        if self._key(name) not in self._values:
            raise BadRequestError(f"parameter {name} is missing (upper and lower case count)")
        return self._values[self._key(name)]

    def _identifier(self, name: str) -> int:
        text = self._values.get(self._key(name), "0")
        value = int(text) if re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) else -1
        if not 0 <= value <= HIGHEST_ID:
            raise BadRequestError(f"{name} must be a whole number from 0 to {HIGHEST_ID}, not '{text}'")
        return value


@dataclass(frozen=True)
class Transaction:
    """The pair of numbers that every answer carries: the client's own, and the server's."""

    client: int
    server: int

    def answer(self, values: Mapping[str, Any], error: AlpacaError | None = None) -> bytes:
        """An answer as JSON.

        values : {"Value": …}, or empty for methods. error : the refusal; then no value is sent.
        """
        answer: dict[str, Any] = {
            "ClientTransactionID": self.client,
            "ServerTransactionID": self.server,
            "ErrorNumber": 0 if error is None else error.number,
            "ErrorMessage": "" if error is None else error.message,
        }
        if error is None:
            answer |= values
        return json.dumps(answer).encode()
