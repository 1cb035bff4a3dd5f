"""Client against a made-up server on this machine."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from likeness.demo.launcher.client import FAILURES, Client, Turn
from likeness.demo.launcher.host import Host


class Answers(BaseHTTPRequestHandler):
    """Handler that answers with the method and path of the request."""

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = json.dumps({"asked": f"{self.command} {self.path}"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self):
        self.do_GET()

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def port():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def proxy(monkeypatch):
    """Sets a proxy without a server for everything; Python reads the variables on first use."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)


def test_a_proxy_does_not_stand_between_us_and_the_server(proxy, port, tmp_path):
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
    client = Client(f"127.0.0.1:{port}")
    assert json.loads(client.get("/view", filename="a b.png")) == {"asked": "GET /view?filename=a+b.png"}
    assert client.post("/interrupt", {}) == {"asked": "POST /interrupt"}
    assert Host(tmp_path, tmp_path, port=port)._answers()


def test_a_run_connects_in_its_turn():
    """Nobody reads a connection that waits, and older versions of aiohttp then take the server for lost."""
    lock = threading.Lock()

    def run(client: Client) -> None:
        with contextlib.suppress(*FAILURES):
            client.run({}, turn=Turn(lock))

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        thread = threading.Thread(target=run, args=(Client(f"127.0.0.1:{server.getsockname()[1]}"),))
        with lock:
            thread.start()
            with pytest.raises(TimeoutError):
                server.accept()
        server.settimeout(10)
        connection, _ = server.accept()
    connection.close()
    thread.join(10)
    assert not thread.is_alive() and not lock.locked()
