"""Workers with servers in processes of their own, and what happens when these are killed."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from likeness.demo.launcher.files import Problem
from likeness.lab.farm import options
from likeness.lab.farm.crew import AHEAD, Threads
from likeness.lab.farm.farm import Farm
from likeness.lab.farm.records import Records
from likeness.lab.farm.servers import Blameless, OwnServer, Server
from likeness.lab.farm.worker import Worker
from likeness.tests.lab.farm.stand_in import FAKE, alive, pictures, pid_of, task_of, until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX only: ends processes by signals")


def own(base):
    return Worker(OwnServer(base, {}, cpu=True))


def drawn(out, tasks, crew, at=None):
    """Draws tasks; at: called with the count of finished ones. Returns the pictures and the errors."""
    out.mkdir(parents=True, exist_ok=True)
    records, errors = Records(out), {}

    def done(task, outcome):
        records.finish(task, outcome)
        if outcome.error:
            errors[task.name] = outcome.error
        if at:
            at(len(pictures(out)) + len(errors))

    Farm(tasks, crew, lambda text: None).run(done)
    return pictures(out), errors


def times_drawn(*bases):
    lines = [line for base in bases for line in (base / "drawn.txt").read_text().split()]
    return len(lines), len(set(lines))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Pictures of one worker."""
    place = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMFYUI_PATH", str(FAKE))
        patch.delenv("LIKENESS_PYTHON", raising=False)
        found, errors = drawn(
            place, [task_of(seed, wait=0.02) for seed in range(12)], Threads([own(place / "work")], 1)
        )
    assert len(found) == len(set(found.values())) == 12 and not errors
    assert not list((place / "work" / "output").iterdir())  # or ComfyUI would list them all for each new name
    return found


def test_two_workers_make_what_one_makes_when_a_server_is_killed(comfyui, tmp_path, alone):
    bases, killed, both = [tmp_path / "a", tmp_path / "b"], [], threading.Barrier(2)

    class Together(Worker):
        """Worker that takes tasks once the other one does, or the first might draw all of them."""

        def start(self):
            super().start()
            both.wait(60)

    def kill(count):
        if count == 4:
            killed.append(pid_of(bases[0]))
            os.kill(killed[0], signal.SIGKILL)

    tasks = [task_of(seed, wait=0.02) for seed in range(12)]
    works = [Together(OwnServer(base, {}, cpu=True)) for base in bases]
    found, errors = drawn(tmp_path / "out", tasks, Threads(works, AHEAD), kill)
    assert found == alone and not errors
    assert times_drawn(*bases)[1] == 12
    assert pid_of(bases[0]) != killed[0]  # another server took its place
    until(lambda: not any(alive(pid) for pid in (*killed, *map(pid_of, bases))))


def test_a_picture_that_ends_its_server_is_a_result(comfyui, tmp_path):
    tasks = [task_of(0), task_of(1, dies=True), task_of(2), task_of(3, raises="the mask is empty")]
    found, errors = drawn(tmp_path / "out", tasks, Threads([own(tmp_path / "work")], AHEAD))
    assert sorted(found) == ["row/subject/0/000", "row/subject/0/002"]
    assert "the server was lost 3 times at this picture" in errors["row/subject/0/001"]
    assert errors["row/subject/0/003"] == "KSampler (node 1): the mask is empty"
    assert len(list((tmp_path / "out" / "images").rglob("*.error.json"))) == 2


def test_a_server_lost_while_a_picture_is_fetched_is_not_blamed_on_it(comfyui, tmp_path, monkeypatch):
    server = OwnServer(tmp_path / "work", {}, cpu=True)
    server.start()
    monkeypatch.setattr(server.client, "image", lambda _record: server._host.stop() or server.client.get("/view"))
    with pytest.raises(Blameless):
        server.draw(task_of(0).graph, task_of(0).output, 60.0)
    server.stop()


def test_inputs_are_lent_and_an_equal_graph_is_drawn_again(comfyui, tmp_path):
    (tmp_path / "photo.png").write_bytes(b"photo")
    first = task_of(5, file=str(tmp_path / "photo.png"))
    second = replace(first, name="another/subject/0/005")
    found, errors = drawn(tmp_path / "out", [first, second], Threads([own(tmp_path / "work")], AHEAD))
    assert not errors and found[first.name] == found[second.name] and found[first.name].endswith(b"photo")


def test_weights_that_a_machine_lacks_are_one_sentence(comfyui, tmp_path):
    server = OwnServer(tmp_path / "work", {"models": str(tmp_path / "models")}, cpu=True)
    with pytest.raises(Problem, match=r"has no folder .*models, where the plan has its weights: put them there, or"):
        server.start()


class Plain:
    """Server of a user's own."""

    def __init__(self, base, port):
        (base / "output").mkdir(parents=True)
        command = [sys.executable, str(FAKE / "main.py"), "--base-directory", str(base), "--port", str(port)]
        self.base, self.address, self.process = base, f"127.0.0.1:{port}", subprocess.Popen(command)
        until(self.answers)

    def answers(self):
        try:
            Server(self.address).start()
        except Problem:
            return False
        return True

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def plain(tmp_path):
    """Function that starts a user's own server."""
    started = []

    def start():
        from likeness.demo.launcher.host import _free_port

        started.append(Plain(tmp_path / f"plain{len(started)}", _free_port()))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def test_servers_of_the_user_that_are_killed_leave_their_work_to_the_others(plain, tmp_path, alone):
    servers = [plain(), plain()]
    chosen = options.argparse.Namespace(server=[one.address for one in servers], ray=None, workers=None, per_gpu=None)

    def crew():
        return options.crew(chosen, tmp_path / "work", {}, cpu=True)

    def kill(count):
        if count in (4, 9):
            servers[count == 9].kill()

    tasks = [task_of(seed, wait=0.02) for seed in range(12)]
    with pytest.raises(Problem, match=r"was lost .*, and a server of --server is never started again from here"):
        drawn(tmp_path / "out", tasks, crew(), kill)
    assert len(pictures(tmp_path / "out")) == 9
    servers[:] = [plain()]
    chosen.server = [servers[0].address]
    records = Records(tmp_path / "out")
    survey = records.survey()
    left = [task for task in tasks if not survey.record(task.name, task.key)]
    assert len(left) == 3 and drawn(tmp_path / "out", left, crew())[0] == alone


def test_a_stolen_port_is_noticed(comfyui, tmp_path, plain, monkeypatch):
    other, server = plain(), OwnServer(tmp_path / "work", {}, cpu=True)
    server._host.port = int(other.address.rpartition(":")[2])  # taken between the choice and the start
    server.client.address = server._host.client.address = other.address
    server.start()
    assert server.client.address != other.address and server.about() == {"comfyui": "0.0", "device": "fake"}
    server.stop()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"workers": 0}, "--workers is 0, expected 1 or more"),
        ({"per_gpu": 2}, "--per-gpu shares the GPUs that Ray finds: add --ray local"),
        ({"server": ["a:1"], "workers": 2}, "--server names yours: leave one of the two out"),
    ],
)
def test_options_that_do_not_go_together_are_one_sentence(given, said):
    chosen = options.argparse.Namespace(**{"server": None, "ray": None, "workers": None, "per_gpu": None, **given})
    with pytest.raises(Problem, match=said):
        options.check(chosen)
