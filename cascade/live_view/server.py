"""The page's server: loopback only, a token in the URL, server-sent events out, three buttons in.

Nothing else on the machine can press a button without the token, and no other website can: requests must name this
server as their host (against DNS rebinding) and as their origin.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cascade.contracts import DeviceError
from cascade.live_view.board import Board

LOOPBACK = "127.0.0.1"
ALIVE_S = 5.0  # an empty line at least this often tells a browser that has gone
MOST_BYTES = 10_000
POLICY = "default-src 'none'; img-src data:; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'"
ASSETS = {
    "/": ("view.html", "text/html; charset=utf-8"),
    "/view.css": ("view.css", "text/css; charset=utf-8"),
    "/view.js": ("view.js", "text/javascript; charset=utf-8"),
}
Press = Callable[[str, Mapping[str, Any]], bool]


class ViewServer:
    """Serves one run's page from a thread of its own.

    Args:
        board: what is shown.
        press: called with 'approve', 'reject' or 'stop' and what came with it; returns whether it meant anything.
        port: of 127.0.0.1; 0 takes a free one.

    Raises:
        DeviceError: the port is taken.
    """

    def __init__(self, board: Board, press: Press, port: int = 0) -> None:
        self.board, self.press, self.token = board, press, secrets.token_urlsafe(24)
        self.watching = 0
        try:
            self._http = _Http((LOOPBACK, port), _Handler)
        except OSError as error:
            raise DeviceError(
                f"port {port} of {LOOPBACK}: expected a free one, found that it cannot be used ({error.strerror}).",
                "Choose another with --view-port, or leave it out.",
            ) from error
        self._http.view = self
        self._thread = threading.Thread(target=self._http.serve_forever, name="live-view", daemon=True)

    @property
    def port(self) -> int:
        """Port it listens on."""
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        """Address of the page, token included."""
        return f"http://{LOOPBACK}:{self.port}/?token={self.token}"

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def close(self) -> None:
        """Stop serving; open pages are told first."""
        self.board.close()
        self._http.shutdown()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    view: ViewServer


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the terminal belongs to the run."""

    def do_GET(self) -> None:
        """Serve the page, its parts, and the stream of events."""
        path = urlsplit(self.path).path
        if path in ("/view.css", "/view.js"):  # say nothing about the run
            self._send_asset(path)
        elif not self._allowed():
            self._say(403, {"error": "expected the token of this run in the address"})
        elif path == "/events":
            self._stream()
        elif path == "/":
            self._send_asset(path)
        else:
            self._say(404, {"error": "nothing here"})

    def do_POST(self) -> None:
        """Take a press of a button."""
        length = self.headers.get("Content-Length", "0")
        size = int(length) if length.isdigit() else MOST_BYTES + 1
        if size > MOST_BYTES:
            self.close_connection = True
            return self._say(413, {"error": "too long"})
        body = self.rfile.read(size)
        if not self._allowed():
            return self._say(403, {"error": "expected the token of this run in the address"})
        name = urlsplit(self.path).path.strip("/")
        if name not in ("approve", "reject", "stop"):
            return self._say(404, {"error": "nothing here"})
        try:
            said = json.loads(body or b"{}")
        except ValueError:
            said = None
        if not isinstance(said, dict):
            return self._say(400, {"error": "expected a JSON object"})
        done = self.server.view.press(name, said)
        return self._say(200 if done else 409, {"done": done})

    def _allowed(self) -> bool:
        view = self.server.view
        token = parse_qs(urlsplit(self.path).query).get("token", [""])[0]
        hosts = {f"{name}:{view.port}" for name in (LOOPBACK, "localhost")}
        origin = self.headers.get("Origin")
        mine = self.headers.get("Host", "") in hosts and (origin is None or urlsplit(origin).netloc in hosts)
        return mine and secrets.compare_digest(token.encode(), view.token.encode())

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        view, version, closed = self.server.view, 0, False
        view.watching += 1
        try:
            while not closed:
                version, news, closed = view.board.newer(version, ALIVE_S)
                for topic, text in news.items():
                    self.wfile.write(f"event: {topic}\ndata: {text}\n\n".encode())
                self.wfile.write(b": alive\n\n")
            self.wfile.write(b"event: bye\ndata: {}\n\n")
        except OSError:
            pass  # the browser has gone
        finally:
            view.watching -= 1

    def _send_asset(self, path: str) -> None:
        name, kind = ASSETS[path]
        self._send(200, (files("cascade.live_view") / "assets" / name).read_bytes(), kind)

    def _say(self, status: int, value: Mapping[str, Any]) -> None:
        self._send(status, json.dumps(value).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(body)
