"""One connection to a planning server: every wait has a deadline, a late reply is never taken for the next one's."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from cascade.contracts import DataError, RemoteError
from cascade.contracts.wire import pack, unpack


class Connection:
    """A websocket that is opened when first needed and again after it broke.

    Protocol (openpi): the server greets with its metadata; then one binary request, one binary reply. A reply that is a
    text is the server's error message.
    """

    def __init__(
        self, url: str, *, token: str | None, connect_timeout_s: float, timeout_s: float, max_bytes: int
    ) -> None:
        self._url, self._token = url, token
        self._connect_timeout_s, self._timeout_s, self._max_bytes = connect_timeout_s, timeout_s, max_bytes
        self._socket: Any = None
        self._metadata: dict[str, Any] = {}

    def open(self) -> Mapping[str, Any]:
        """Connect if need be and return the server's metadata.

        Raises:
            RemoteError: nobody listens, the token is refused, or no greeting comes in time.
        """
        if self._socket is not None:
            return self._metadata
        try:
            from websockets.exceptions import InvalidStatus, WebSocketException
            from websockets.sync.client import connect
        except ImportError as error:
            raise RemoteError(
                "planner 'remote': expected the packages websockets and msgpack, found them missing.",
                'Install them: pip install "cascade-wam[remote]".',
            ) from error
        headers = {"Authorization": f"Api-Key {self._token}"} if self._token else None
        began = time.monotonic()
        try:
            self._socket = connect(
                self._url,
                additional_headers=headers,
                open_timeout=self._connect_timeout_s,
                close_timeout=0.5,
                compression=None,
                max_size=self._max_bytes,
                proxy=None,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            fix = "Set CASCADE_TOKEN or the option token_file." if status == 401 else "Check address and server."
            raise RemoteError(f"{self._url}: the server refused the connection with status {status}.", fix) from error
        except (OSError, TimeoutError, WebSocketException, EOFError) as error:
            raise RemoteError(
                f"{self._url}: expected a planning server, found none ({_cause(error)}).",
                "Start one with `cascade serve`, or correct the option url.",
            ) from error
        left_s = max(0.05, self._connect_timeout_s - (time.monotonic() - began))
        greeting = self._receive(left_s, "its metadata")
        if not isinstance(greeting, dict):
            self.close()
            raise RemoteError(f"{self._url}: expected the server's metadata, found something else.", "Check the port.")
        self._metadata = greeting
        return greeting

    def call(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request and return its reply.

        Raises:
            RemoteError: the link broke, the reply is late, or the server reports an error. After the first two the
                connection is dropped, so that a late reply cannot be taken for another's.
        """
        from websockets.exceptions import WebSocketException

        self.open()
        data = pack(dict(request))
        try:
            self._socket.send(data)
        except (OSError, TimeoutError, WebSocketException, EOFError) as error:
            self.close()
            raise RemoteError(
                f"{self._url}: the link broke ({_cause(error)}).", "Look at the server's output."
            ) from error
        reply = self._receive(self._timeout_s, "a reply")
        if not isinstance(reply, dict):
            self.close()
            raise RemoteError(f"{self._url}: expected a map as reply, found {type(reply).__name__}.", "")
        return reply

    def _receive(self, timeout_s: float, what: str) -> Any:
        from websockets.exceptions import WebSocketException

        try:
            message = self._socket.recv(timeout=timeout_s)
        except TimeoutError as error:
            self.close()
            raise RemoteError(
                f"{self._url}: expected {what} within {timeout_s:g} s, found none.",
                "Look at the server's output, or allow more with the option timeout_s.",
            ) from error
        except (OSError, WebSocketException, EOFError) as error:
            self.close()
            raise RemoteError(
                f"{self._url}: the link broke while waiting for {what} ({_cause(error)}).",
                "Look at the server's output.",
            ) from error
        if isinstance(message, str):
            raise RemoteError(
                f"{self._url}: the server reports: {message.strip()[-500:]}", "Look at the server's output."
            )
        try:
            return unpack(message, max_bytes=self._max_bytes)
        except DataError as error:
            self.close()
            raise RemoteError(f"{self._url}: the server sent what cannot be read: {error.problem}", "") from error

    def close(self) -> None:
        """Let go of the connection; never raises."""
        socket, self._socket = self._socket, None
        if socket is not None:
            with suppress(Exception):  # closing a broken link may fail in many ways; it is gone either way
                socket.close()


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
