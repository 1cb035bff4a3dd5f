"""A worker in a process of its own: its answers, its death, and the end of the process that asks."""

import os
import subprocess
import sys

import pytest
from likeness.demo.launcher.files import Problem
from likeness.lab.farm.process import LIVES, Process
from likeness.lab.farm.task import Task
from likeness.tests.lab.farm.echo import MAKER
from likeness.tests.lab.farm.stand_in import FAKE, alive, descendants, until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX only: ends processes by signals")


def task(output: str) -> Task:
    return Task("a/b", "0", {}, output)


@pytest.fixture
def worker():
    made = Process(MAKER, {})
    made.start()
    yield made
    made.stop()


def test_answers_are_whole(worker):
    found = worker.run(task("answer"))
    assert found.content == b"a/b\n" * 9 and found.facts["pid"] != os.getpid() and not found.error
    assert worker.run(task("fail a node's sentence")).error == "a node's sentence"


def test_a_lost_process_is_replaced(worker, tmp_path):
    before = worker.run(task("answer")).facts["pid"]
    found = worker.run(task(f"once {tmp_path / 'died'}"))
    assert found.content and found.facts["pid"] != before and not alive(before)


def test_a_task_that_costs_every_process_is_given_up_and_others_go_on(worker):
    assert worker.run(task("die")).error == f"{LIVES} processes were lost at it"
    assert worker.run(task("answer")).content


def test_an_error_of_its_own_is_not_tried_again(worker):
    with pytest.raises(Problem, match=r"^A worker ended by an error of its own, which stands above\.$"):
        worker.run(task("break"))


def test_what_hinders_the_start_is_its_own_sentence():
    with pytest.raises(Problem, match=r"^No weights\.$"):
        Process(MAKER, {"refuses": "No weights."}).start()
    with pytest.raises(Problem, match="ended while it started"):
        Process("tests.lab.farm.echo:Nothing", {}).start()


def test_it_ends_with_the_process_that_asks(tmp_path):
    code = f"""
import importlib.util, os, signal
spec = importlib.util.spec_from_file_location("launch", {str(FAKE.parents[2] / "../demo/launcher/launch.py")!r})
launch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(launch)
launch.alias_pack(None)
from likeness.lab.farm.process import Process
from likeness.lab.farm.task import Task
made = Process({MAKER!r}, {{}})
made.start()
open({str(tmp_path / "up")!r}, "w").close()
made.run(Task("a", "0", {{}}, "sleep 600"))
"""
    asking = subprocess.Popen([sys.executable, "-c", code])
    until(lambda: (tmp_path / "up").exists(), 120)
    workers = descendants(asking.pid)
    asking.kill()
    asking.wait()
    assert len(workers) == 1
    until(lambda: not any(map(alive, workers)))
