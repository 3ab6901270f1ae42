"""A read-only web server for this machine: all runs, two side by side, and the report of each.

It listens on 127.0.0.1 alone, answers under that machine's names alone (a page elsewhere cannot have a browser read it
under a name of its own: DNS rebinding), and opens no path that a request names: a run is looked up by its id.
"""

import sys
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from agent.local_page.pages import render_compare, render_list
from agent.record.commands import start_command
from agent.record.page.report import render
from agent.record.reading import read_run
from agent.record.runs import find_run, list_runs
from agent.record.trace_file import read_trace
from cao.errors import InputError, UnavailableError
from policies.client.address import names_this_machine

HERE = "127.0.0.1"
PATIENCE_S = 20.0
"""How long a browser may take to say what it wants."""
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class NotFoundError(InputError):
    """There is no such page."""


class Pages(ThreadingHTTPServer):
    """The server.

    Attributes:
        out: the folder of runs.
    """

    daemon_threads = True

    def __init__(self, out: Path, port: int) -> None:
        self.out = out
        try:
            super().__init__((HERE, port), Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UnavailableError(f"port {port} cannot be had ({reason}); choose another --port") from None

    def handle_error(self, request: object, client_address: object) -> None:
        """Say a defect in one line; a browser that went away is none."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            sys.stderr.write(f"defect in a page: {type(error).__name__}\n")

    @property
    def url(self) -> str:
        """Address of the page of all runs."""
        return f"http://{HERE}:{self.server_port}/"


def page(out: Path, target: str) -> str:
    """Return the page that a request asks for, as HTML.

    Args:
        out: the folder of runs.
        target: path and query of the request.

    Raises:
        NotFoundError: there is no such page, or no such run.
        InputError: a file of the run is damaged, or not two runs were named.
    """
    parts = urlsplit(target)
    if parts.path == "/":
        return render_list(list_runs(out), out, start_command(out))
    if parts.path == "/compare":
        named = parse_qs(parts.query, max_num_fields=20).get("run", [])
        if len(named) != 2:
            raise InputError(f"two runs are compared, {len(named)} were named; tick two")
        first, second = (_run_folder(out, name) for name in named)
        return render_compare(read_run(first), read_run(second))
    name = parts.path.removeprefix("/run/")
    if name == parts.path:
        raise NotFoundError("no such page")
    folder = _run_folder(out, unquote(name))
    return render(read_run(folder), read_trace(folder), folder, home="/")


def _run_folder(out: Path, name: str) -> Path:
    try:
        folder = find_run(out, name)
    except InputError:
        raise NotFoundError("no such run") from None
    if folder.name != name or folder.is_symlink():
        raise NotFoundError("no such run")
    return folder


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; everything else is refused by the library."""

    server: Pages
    server_version, sys_version = "cao", ""
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        """Answer with a page."""
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not names_this_machine(hosts[0]):
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, f"This page answers at {self.server.url} only.")
            return
        try:
            self._answer(HTTPStatus.OK, page(self.server.out, self.path), html=True)
        except NotFoundError as error:
            self._answer(HTTPStatus.NOT_FOUND, str(error))
        except (InputError, ValueError) as error:
            self._answer(HTTPStatus.BAD_REQUEST, str(error))

    do_HEAD = do_GET

    def _answer(self, status: HTTPStatus, text: str, *, html: bool = False) -> None:
        body = text.encode("utf-8", "backslashreplace")
        self.send_response(status)
        for name, value in HEADERS.items():
            plain = name == "Content-Type" and not html
            self.send_header(name, "text/plain; charset=utf-8" if plain else value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the library's name)
        """Say nothing: what is asked for is the reader's own business."""


def serve(out: Path, port: int, *, as_json: bool) -> int:
    """Show the runs until Ctrl-C.

    Args:
        out: the folder of runs.
        port: to listen on; 0 takes a free one.
        as_json: print the address as an object.

    Raises:
        UnavailableError: the port cannot be had.
    """
    with Pages(out, port) as pages:
        sys.stdout.write(f'{{"url": "{pages.url}"}}\n' if as_json else f"{pages.url}  (Ctrl-C ends it)\n")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):  # that is how it ends
            pages.serve_forever()
    return 0
