"""Serve the pages of runs while they go on, until a signal ends the command."""

from collections.abc import Sequence

from comm import terminal
from engine.config.errors import UserError
from engine.report.run_record import named_folder
from engine.report.server import LiveServer
from engine.report.site import Site

HOST, PORT = "127.0.0.1", 8741


def serve(given: Sequence[str], host: str, port: int) -> None:
    """Serve the page of a run, or of all runs in a folder, and do not return.

    Raises
    ------
    UserError
        There is no such folder, or nothing can be listened at there.
    """
    make_server(given, host, port).serve_forever()


def make_server(given: Sequence[str], host: str, port: int) -> LiveServer:
    """Return a server that listens, and say where.

    Raises
    ------
    UserError
        As `serve` does.
    """
    if len(given) != 1:
        raise UserError(f"live: got {len(given)} runs; give one, or the folder that holds them")
    if not 0 <= port < 1 << 16:
        raise UserError(f"port: got {port}; must be 0 to {(1 << 16) - 1}")
    name, folder = named_folder(given[0])
    if not folder.is_dir():
        raise UserError(f"run: {folder}: there is no such folder")
    server = LiveServer(Site(name, folder.absolute()), host, port)
    terminal.say(f"live report on {server.address} (Ctrl-C ends it)")
    return server
