"""The local page, by real requests: what it shows, and what it refuses."""

import http.client
import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.local_page.server import Pages
from cao.encodings import visible
from cao.errors import UnavailableError
from tests.agent import run_folders as made
from tests.agent.record.report_pages import Page
from tests.browser import PHONE, browser

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs, a damaged one and a hostile one; and a secret beside the folder of runs."""
    root = tmp_path_factory.mktemp("ui")
    out = root / "runs"
    made.write_run(out, "one", made.started_run("one"))
    made.write_run(
        out, "two", {**made.record("two"), "created": "2026-11-01T00:00:00Z", "seed": 5, "config": {"seed": 5}}
    )
    made.write_unfinished(out, "killed", keep=9)
    made.write_run(out, "hostile", made.hostile("hostile"))
    (made.write_run(out, "bad") / "run.json").write_text("{")
    (root / "secret.txt").write_text("the secret")
    (root / "away").mkdir()
    (root / "away" / "config.json").write_text('{"run_id": "away"}')
    (out / "linked").symlink_to(root / "away")
    return out


@pytest.fixture(scope="module")
def server(out: Path) -> Iterator[Pages]:
    with Pages(out, 0) as pages:
        thread = threading.Thread(target=pages.serve_forever)
        thread.start()
        yield pages
        pages.shutdown()
        thread.join()


def ask(server: Pages, target: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.putrequest(method, target, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, dict(answer.headers), answer.read().decode()


def test_every_run_is_listed_and_links_to_its_report(server: Pages) -> None:
    status, headers, html = ask(server, "/")
    page = Page(html)
    assert (status, headers["Cache-Control"], headers["X-Content-Type-Options"]) == (200, "no-store", "nosniff")
    links = [value for name, value in page.attributes if name == "href"]
    assert sorted(links) == ["/run/bad", "/run/hostile", "/run/killed", "/run/one", "/run/two"]
    assert "45.5 → 48.5 %" in page.text
    assert "damaged; it is no JSON object" in " ".join(html.split()) or "damaged" in page.text
    assert not [char for char in html if char != "\n" and visible(char) != char]
    assert "<script>alert" not in html


def test_a_report_is_rendered_from_the_records_and_leads_back(server: Pages, out: Path) -> None:
    (out / "one" / "report.html").write_text("<script>window.hit=1</script>")  # what lies there is not served
    status, _, html = ask(server, "/run/one")
    assert (status, "window.hit" in html) == (200, False)
    assert 'href="/"' in html
    assert "Improved" in Page(html).text


def test_two_runs_are_compared(server: Pages) -> None:
    status, _, html = ask(server, "/compare?run=one&run=two")
    text = Page(html).text
    assert status == 200
    assert "seed" in text
    assert "41.7 → 49.0 % 45.8 → 49.0 %" in text
    assert ask(server, "/compare?run=one")[::2] == (400, "two runs are compared, 1 were named; tick two")
    assert ask(server, "/compare?run=one&run=none")[0] == 404
    assert ask(server, "/compare?run=hostile&run=one")[0] == 200
    assert ask(server, "/compare?" + "run=one&" * 40)[0] == 400


@pytest.mark.parametrize(
    "target",
    [
        *("/run/../secret.txt", "/run/..%2fsecret.txt", "/run/%2e%2e/secret.txt", "/run/..\\secret.txt"),
        *("/run/one/../../secret.txt", "/run//etc/passwd", "/run/%2fetc%2fpasswd", "/run/one%00", "/run/", "/run/on"),
        *("/run/one/run.json", "/run/linked", "/run/.lock", "/secret.txt", "/../secret.txt", "//127.0.0.1/run/one/x"),
        *("/run/%ff", "/run/ONE", "/runs", "/favicon.ico", "/run/" + "a" * 5000, "/run/one;x", "/static/../x"),
    ],
)
def test_a_path_leads_nowhere_but_to_runs(server: Pages, target: str) -> None:
    status, _, text = ask(server, target)
    assert (status, "the secret" in text, "<html" in text) == (404, False, False)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "localhost.evil.example:80", "", "127.0.0.1.evil.example", "::1", "0.0.0.0"],
)
def test_a_name_that_is_not_this_machine_s_is_refused(server: Pages, host: str) -> None:
    status, _, text = ask(server, "/", Host=host)
    assert (status, "one" in text) == (421, False)


def test_this_machine_s_names_are_answered(server: Pages) -> None:
    for name in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]"):
        for port in (f":{server.server_port}", ":1", ""):  # another one by a tunnel
            assert ask(server, "/", Host=f"{name}{port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "X"])
def test_only_reading_is_allowed(server: Pages, out: Path, method: str) -> None:
    before = sorted(path for path in out.rglob("*"))
    assert ask(server, "/run/one", method)[0] == 501
    assert sorted(path for path in out.rglob("*")) == before


def test_head_has_no_body(server: Pages) -> None:
    status, headers, body = ask(server, "/", "HEAD")
    assert (status, body, int(headers["Content-Length"]) > 1000) == (200, "", True)


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
        b"\x00\xff" * 400 + b"\r\n\r\n",
        b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_request_leaves_the_server_at_work(server: Pages, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as raw:
        raw.sendall(sent)
        raw.shutdown(socket.SHUT_WR)
        answer = raw.recv(1 << 16)
    assert b"the secret" not in answer
    assert ask(server, "/")[0] == 200


def test_a_port_that_is_taken_is_said(server: Pages, out: Path) -> None:
    with pytest.raises(UnavailableError, match="choose another --port"):
        Pages(out, server.server_port)


def test_the_command_listens_on_this_machine_alone(out: Path) -> None:
    command = [sys.executable, "-m", "agent.ui", "--out", str(out), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        assert url.startswith("http://127.0.0.1:")
        connection = http.client.HTTPConnection(url.split("/")[2], timeout=60)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        process.terminate()
        assert process.wait(30) == 0


def test_a_browser_that_goes_away_is_no_defect(server: Pages, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as gone:
            gone.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert ask(server, "/")[0] == 200
    assert capsys.readouterr().err == ""


def test_the_list_sorts_filters_and_compares_in_a_browser(server: Pages, tmp_path: Path) -> None:
    with browser(tmp_path) as chromium:
        chromium.open(server.url, PHONE)
        assert chromium.ask("document.documentElement.scrollWidth") <= PHONE[0]
        chromium.open(server.url)
        rows = "[...document.querySelectorAll('tbody tr')].filter((row) => row.offsetParent)"
        names = f"{rows}.map((row) => row.cells[1].innerText.split('\\n')[0])"
        assert len(chromium.ask(names)) == 5
        chromium.ask("document.querySelector('th[data-sort]').click()")
        assert chromium.ask(names) == ["bad", "hostile", "killed", "one", "two"]
        chromium.ask("document.querySelector('th[data-sort]').click()")
        assert chromium.ask(names)[0] == "two"
        chromium.ask(
            "(() => { const i = document.querySelector('[type=search]'); i.value = 'unfinished';"
            " i.dispatchEvent(new Event('input')) })()"
        )
        assert chromium.ask(names) == ["killed"]
        chromium.ask("document.querySelector('button').click()")
        assert "tick two runs" in chromium.ask("document.querySelector('output').textContent")
        assert chromium.complaints == []
