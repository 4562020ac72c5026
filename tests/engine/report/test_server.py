"""The server: what it answers, whom it refuses, and what does not end it."""

import http.client
import json
import socket
import threading
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from engine.config.errors import UserError
from engine.report import live, site
from engine.report.followed_run import FollowedRun
from engine.report.server import LiveServer
from engine.report.site import Site
from tests.engine.report.written import write_run


@contextmanager
def serving(folder, host="127.0.0.1", port=0):
    """Serve a folder on a thread; yield the server."""
    with LiveServer(Site("runs", folder), host, port) as server:
        thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server, path, *, method="GET", **headers):
    """Return the status, the content and the headers of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    finally:
        connection.close()


def say(server, text):
    """Return the answer to bytes that are perhaps no question."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()


@pytest.fixture
def server(tmp_path):
    write_run(tmp_path / "runs" / "a")
    write_run(tmp_path / "runs" / "x y")
    write_run(tmp_path / "secret")
    with serving(tmp_path / "runs") as found:
        yield found


def test_the_list_leads_to_the_runs_and_each_page_to_its_news(server):
    status, text, headers = ask(server, "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert 'href="run/x%20y/"' in text
    assert headers["Cache-Control"] == "no-store"
    for path in ("/run/a/", "/run/x%20y/"):
        status, text, _ = ask(server, path)
        assert status == 200
        assert 'href="../../"' in text
        status, text, headers = ask(server, f"{path}data.json?at=")
        assert (status, headers["Content-Type"]) == (200, "application/json")
        news = json.loads(text)
        assert (news["facts"]["state"], news["anew"]) == ("done", True)
        assert not json.loads(ask(server, f"{path}data.json?at={news['at']}")[1])["anew"]
    news = json.loads(ask(server, "/data.json")[1])
    assert len(news["rows"]) == 2
    assert json.loads(ask(server, f"/data.json?at={news['at']}")[1])["rows"] == []


def test_a_folder_of_a_run_is_served_at_once_also_when_it_is_gone(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with serving(folder) as server:
        assert '<table class="runs">' in ask(server, "/")[1], "nothing is there so far"
        write_run(folder, results=None)
        assert '<section id="now"' in ask(server, "/")[1]
        assert json.loads(ask(server, "/data.json")[1])["facts"]["state"] == "running"
        folder.rename(tmp_path / "away")
        assert json.loads(ask(server, "/data.json")[1])["facts"]["state"] == "its folder is gone"
        assert ask(server, "/")[0] == 200


def test_a_run_that_vanishes_is_not_listed_and_its_page_stays(server, tmp_path, monkeypatch):
    monkeypatch.setattr("engine.report.runs_in_folder._LEAST_PAUSE_S", -1e9)
    monkeypatch.setattr("engine.report.runs_in_folder._SHARE", 1e9)
    ask(server, "/run/a/")
    (tmp_path / "runs" / "a").rename(tmp_path / "a")
    server.site._runs._next_look = 0.0
    assert "run/a/" not in ask(server, "/")[1]
    assert json.loads(ask(server, "/run/a/data.json")[1])["facts"]["state"] == "its folder is gone"


@pytest.mark.parametrize("path", [
    "/../secret/", "/run/../secret/", "/run/..%2Fsecret/", "/run/%2e%2e/", "/run/../../secret/metrics.jsonl",
    "/run/a/../../secret/", "/run/a/metrics.jsonl", "/run/a/run.json", "/run/", "/run//", "/run/b/", "/run/a",
    "//etc/passwd", "/etc/passwd", "/favicon.ico", "/run/a%00/", "/run/%FF/", "/run/a/data.json/",
])  # fmt: skip
def test_nothing_but_runs_is_found(server, path):
    status, text, headers = ask(server, path)
    assert (status, text) == (404, "404 Not Found\n")
    assert headers["Content-Type"].startswith("text/plain")


def test_the_head_of_an_answer_is_the_answers(server):
    _, text, headers = ask(server, "/run/a/data.json?at=")
    status, nothing, head = ask(server, "/run/a/data.json?at=", method="HEAD")
    assert (status, nothing) == (200, "")
    assert head["Content-Length"] == headers["Content-Length"] == str(len(text.encode()))
    assert ask(server, "/none", method="HEAD")[:2] == (404, "")


def test_whatever_is_said_the_next_question_is_answered(server):
    for text, code in (
        (b"\r\n\r\n", ""), (b"nonsense\r\n\r\n", "400"), (b"GET / HTTP/9.9.9\r\n\r\n", "400"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", "414"), (b"\x16\x03\x01\x00\xff\r\n\r\n", "400"),
        (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"),
        (b"GET /?" + b"a=1&" * 20 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", "501"),
        (b"DELETE /run/a/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "501"), (b"GET / HT", "400"),
    ):  # fmt: skip
        answer = say(server, text)
        assert code in answer[:60], (text[:40], answer[:80])
        assert not answer.startswith("HTTP/1.0 200")
    with socket.create_connection(("127.0.0.1", server.server_port)):  # says nothing at all
        assert ask(server, "/run/a/")[0] == 200


def test_an_answer_that_fails_is_one_line_and_no_end(server, monkeypatch, capsys):
    def broken(*_, **__):
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(site.run_page, "run_page", broken)
        assert ask(server, "/run/a/")[0] == 500
    assert ask(server, "/run/a/")[0] == 200
    assert capsys.readouterr().err == "error: an answer failed: RuntimeError('broken')\n"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil", "", "[::", "10.0.0.1"])
def test_a_foreign_name_that_leads_here_is_refused(server, host):
    assert ask(server, "/", Host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1", "[::1]:80"])
def test_names_of_this_machine_are_answered(server, host):
    assert ask(server, "/", Host=host)[0] == 200


def test_another_host_needs_the_token(tmp_path):
    write_run(tmp_path / "a")
    with serving(tmp_path, "0.0.0.0") as server:
        token = server.token
        assert len(token) >= 32
        for path in ("/", "/data.json", "/run/a/", "/run/a/data.json", "/none"):
            assert ask(server, path)[0] == 401
            for wrong in ("", f"x{token}", token[:-1], "%C3%A9", "%FF"):
                status, text, _ = ask(server, f"{path}?token={wrong}")
                assert (status, token in text) == (401, False), wrong
            assert ask(server, path, Authorization="Bearer wrong")[0] == 401
            assert ask(server, path, Authorization=token)[0] == 401
        assert ask(server, "/", Authorization=f"Bearer {token}")[0] == 200
        status, text, _ = ask(server, f"/?token={token}", Host="node17.cluster")
        assert status == 200
        assert f'href="run/a/?token={token}"' in text
        status, text, _ = ask(server, f"/run/a/?token={token}")
        assert f'href="../../?token={token}"' in text
        assert urlsplit(server.address).query == f"token={token}"
        assert urlsplit(server.address).hostname == socket.gethostname().lower()
    with serving(tmp_path, "0.0.0.0") as other:
        assert other.token != token


def test_this_machine_alone_needs_none(tmp_path):
    with serving(tmp_path) as server:
        assert (server.token, server.address) == ("", f"http://127.0.0.1:{server.server_port}/")


def test_a_place_that_cannot_be_listened_at_is_one_line(tmp_path):
    with serving(tmp_path) as server, pytest.raises(UserError) as caught:
        LiveServer(Site("runs", tmp_path), "127.0.0.1", server.server_port)
    place = f"127.0.0.1:{server.server_port}"
    assert str(caught.value) == f"port: cannot listen at {place}: Address already in use"
    with pytest.raises(UserError, match=r'^host: got ""; must be a name or an address$'):
        LiveServer(Site("runs", tmp_path), "", 0)
    with pytest.raises(UserError, match=r"^host: got no such\.host: "):
        LiveServer(Site("runs", tmp_path), "no such.host", 0)


def test_a_run_is_looked_at_by_one_at_a_time(tmp_path, monkeypatch):
    write_run(tmp_path / "a")
    pages, refresh, held = Site("runs", tmp_path), FollowedRun.refresh, []
    pages.answer("/", {})
    monkeypatch.setattr(FollowedRun, "refresh", lambda run: (held.append(run.lock._is_owned()), refresh(run)))
    for path in ("/run/a/", "/run/a/data.json"):
        assert pages.answer(path, {}) is not None
    assert held == [True, True]


def test_the_runs_that_are_followed_are_not_more_than_some(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "_MOST_FOLLOWED", 2)
    for name in "abc":
        write_run(tmp_path / name, steps=1)
    pages = Site("runs", tmp_path)
    for name in "abcab":
        assert pages.answer(f"/run/{name}/", {}) is not None
    assert list(pages._followed) == ["a", "b"]


def test_nothing_is_written(tmp_path):
    write_run(tmp_path / "a")
    (tmp_path / "a" / ".lockstep.lock").touch()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with serving(tmp_path) as server:
        for path in ("/", "/data.json", "/run/a/", "/run/a/data.json"):
            ask(server, path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("given", "port", "message"),
    [
        (["{tmp}/none"], 0, "run: .*/none: there is no such folder"),
        (["{tmp}", "{tmp}"], 0, "live: got 2 runs; give one, or the folder that holds them"),
        (["{tmp}"], 65536, "port: got 65536; must be 0 to 65535"),
        (["{tmp}"], -1, "port: got -1; must be 0 to 65535"),
    ],
)
def test_a_mistake_is_a_line(tmp_path, given, port, message):
    with pytest.raises(UserError, match=message):
        live.make_server([each.format(tmp=tmp_path) for each in given], "127.0.0.1", port)
