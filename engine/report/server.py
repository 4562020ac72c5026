"""The server of live pages: who may ask, and how it is answered; it changes nothing anywhere."""

import hmac
import ipaddress
import secrets
import socket
import socketserver
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from comm import terminal
from engine.config.errors import UserError
from engine.report.site import TOKEN, Site

_TIMEOUT_S = 20.0  # for somebody who has connected, and says nothing
_SAFE = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # a token is in the address
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class LiveServer(ThreadingHTTPServer):
    """A server that listens from the beginning; `serve_forever` answers.

    Parameters
    ----------
    host
        The name or address to listen at: on any that is not this machine's own loopback a token is asked for.
    port
        0: one that is free.

    Raises
    ------
    UserError
        It cannot listen there.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, site: Site, host: str, port: int):
        self.site = site
        if not host:
            raise UserError('host: got ""; must be a name or an address')
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self.address_family = family
            self.token = "" if ipaddress.ip_address(address[0]).is_loopback else secrets.token_urlsafe(24)
            super().__init__(address[:2], _Handler)  # type: ignore[arg-type]
        except socket.gaierror as error:
            raise UserError(f"host: got {host}: {error.strerror}") from error
        except OSError as error:
            raise UserError(f"port: cannot listen at {host}:{port}: {error.strerror or error}") from error
        self._host = host

    def server_bind(self) -> None:
        """Bind, without asking a name server what this machine is called."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def address(self) -> str:
        """The address of the first page, with the token if there is one."""
        host = socket.gethostname() if ipaddress.ip_address(self.server_name).is_unspecified else self._host
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self.server_port}/" + (f"?{TOKEN}={self.token}" if self.token else "")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that has gone, or has fallen asleep."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One question."""

    server: LiveServer
    server_version, sys_version = "lockstep", ""
    timeout = _TIMEOUT_S
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer without the content."""
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Say nothing: a page asks every second."""

    def end_headers(self) -> None:
        """Add what browsers shall not do."""
        for name, value in _SAFE.items():
            self.send_header(name, value)
        super().end_headers()

    def _answer(self) -> None:
        try:
            asked = urlsplit(self.path)
            query = dict(parse_qsl(asked.query, max_num_fields=16))
        except ValueError:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        if (refusal := self._refusal(query)) is not None:
            self.send_error(*refusal)
            return
        try:
            found = self.server.site.answer(asked.path, query)
        except Exception as error:  # one answer that fails is no end of the others
            terminal.say(f"error: an answer failed: {error!r}")
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        if found is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", found.kind)
        self.send_header("Content-Length", str(len(found.content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(found.content)

    def _refusal(self, query: dict[str, str]) -> tuple[HTTPStatus, str] | None:
        """Return why this question is not answered; None where it is."""
        token = self.server.token
        if not token:  # a foreign page may have let a name of its own lead here
            is_local = _is_local(_host_of(self.headers.get("Host", "")))
            return None if is_local else (HTTPStatus.FORBIDDEN, "ask for localhost or 127.0.0.1")
        kind, _, said = self.headers.get("Authorization", "").partition(" ")
        given = (query.get(TOKEN, ""), said.strip() if kind.lower() == "bearer" else "")
        if any(hmac.compare_digest(each.encode("utf-8", "replace"), token.encode()) for each in given):
            return None
        return HTTPStatus.UNAUTHORIZED, "the token is missing or wrong: take the address that was printed"


def _host_of(header: str) -> str:
    """Return the name in a Host header, without its port."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _is_local(name: str) -> bool:
    """Say whether a name can be of this machine alone, whatever a name server says."""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
