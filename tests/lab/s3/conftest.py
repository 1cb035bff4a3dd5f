"""Plans of stand-ins, and what is made of them."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from likeness.lab.s3 import make, makers, prompts, smoke
from likeness.lab.s3.plan import Plan
from likeness.lab.s3.steps import Steps
from likeness.lab.s3.tinyland import TinylandWriter


@pytest.fixture(scope="session")
def judge():
    """The demo's judge as the filter of every plan here."""
    return makers.embeds(Plan(None, smoke.facts()), None, "cpu")  # pyright: ignore[reportArgumentType]


@pytest.fixture
def made_in(judge):
    """Function that plans stand-ins in a folder and makes their shards; returns the plan."""

    def made(folder, workers: int = 1, change=lambda stages: stages, facts=None, **options) -> Plan:
        plan = Plan(folder, facts or smoke.facts(sets=8, per_shard=4))
        plan.write()
        bank = prompts.fill(plan, plan.facts["objects"], TinylandWriter(), lambda _: None)
        steps = [Steps(plan, change(makers.of(plan, None, judge)), bank) for _ in range(workers)]
        make.run(plan, make.here(steps), say=lambda _: None, **options)
        return plan

    return made


@contextlib.contextmanager
def serving(answer):
    """Address of a server. answer(handler, body) writes the reply of each POST."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                answer(self, body)

        def log_message(self, *_arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def reply(handler, content: bytes, status: int = 200, **headers: str) -> None:
    """Writes a reply."""
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture
def endpoint():
    """(serving, reply): a server on this machine, and its replies."""
    return serving, reply
