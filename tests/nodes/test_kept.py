"""The address that releases kept features: refused during a run, and no run begins while it releases."""

import asyncio
import sys
import threading
from types import SimpleNamespace

import execution
import pytest
from likeness.nodes import _kept


class Routes:
    """Keeps the handlers of a server's addresses."""

    def __init__(self):
        self.handlers = {}

    def get(self, path):
        return lambda handler: self.handlers.setdefault(("GET", path), handler)

    def delete(self, path):
        return lambda handler: self.handlers.setdefault(("DELETE", path), handler)


@pytest.fixture
def server(monkeypatch):
    made = SimpleNamespace(routes=Routes(), queue_updated=lambda: None)
    made.prompt_queue = execution.PromptQueue(made)
    web = SimpleNamespace(json_response=lambda body, status=200: (status, body))
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=made), web=web))
    _kept.add_routes()
    return made


def asked(server, method: str):
    return asyncio.run(server.routes.handlers[method, _kept.PATH](None))


def test_features_in_use_are_kept(server, monkeypatch):
    monkeypatch.setattr(_kept, "forget_all", lambda: pytest.fail("released during a run"))
    server.prompt_queue.put((0, "prompt"))
    server.prompt_queue.get()
    status, body = asked(server, "DELETE")
    assert status == 409 and body["busy"] and asked(server, "GET")[0] == 200


def test_no_run_begins_while_features_are_released(server, monkeypatch):
    queue = server.prompt_queue
    queue.put((0, "prompt"))
    begun = threading.Thread(target=queue.get)
    running = []

    def release():
        begun.start()
        begun.join(0.1)
        running.append(dict(queue.currently_running))

    monkeypatch.setattr(_kept, "forget_all", release)
    assert asked(server, "DELETE")[0] == 200
    begun.join()
    assert running == [{}] and queue.currently_running
