"""The queue: what workers are given, and what becomes of the tasks of a lost one."""

import itertools
from collections import deque

import pytest
from likeness.demo.launcher.files import Problem
from likeness.lab.farm.crew import AHEAD, Done, Lost, Ready, Threads
from likeness.lab.farm.farm import BLAME, Farm
from likeness.lab.farm.records import Records
from likeness.lab.farm.task import Outcome
from likeness.tests.lab.farm.stand_in import pictures, task_of


class Scripted:
    """Crew whose workers answer at once, in turn. lost: numbers of answers in whose place a worker is lost."""

    def __init__(self, size, lost=(), again=False):
        self.size, self.lost, self.again = size, set(lost), again
        self.events, self.given, self.most, self.stopped = deque(), {}, 0, 0
        self.answers = itertools.count()

    def start(self):
        for number in range(self.size):
            self.hire(number)

    def hire(self, number):
        self.given[number] = deque()
        self.events.append(Ready(number))

    def give(self, worker, task):
        self.given[worker].append(task)
        self.most = max(self.most, len(self.given[worker]))

    def wait(self):
        if not self.events:
            worker = max(self.given, key=lambda number: len(self.given[number]))
            if next(self.answers) in self.lost:
                del self.given[worker]
                if self.again:
                    self.hire(worker)
                return Lost(worker, "killed", self.again)
            task = self.given[worker].popleft()
            self.events.append(Done(worker, task, Outcome(task.name.encode())))
        return self.events.popleft()

    def stop(self):
        self.stopped += 1


def ran(crew, tasks):
    done = []
    Farm(tasks, crew, lambda text: None).run(lambda task, outcome: done.append((task.name, outcome)))
    return done


@pytest.mark.parametrize(("lost", "again"), [((), False), ((3,), False), ((0, 1, 9), True), ((2, 5), False)])
def test_every_task_is_made_once(lost, again):
    crew = Scripted(3, lost, again)
    done = ran(crew, [task_of(seed) for seed in range(20)])
    assert sorted(name for name, _ in done) == [task_of(seed).name for seed in range(20)]
    assert not any(outcome.error for _, outcome in done) and crew.stopped == 1


def test_a_worker_has_few_tasks_at_a_time_and_the_others_are_not_made_yet():
    crew, taken = Scripted(2), []

    def tasks():
        for seed in range(50):
            taken.append(seed)
            yield task_of(seed)

    held = []
    Farm(tasks(), crew).run(lambda task, outcome: held.append(len(taken) - len(held)))
    assert crew.most == AHEAD and max(held) <= 2 * AHEAD + 1 and len(held) == 50


def test_a_task_that_loses_its_workers_is_a_result():
    done = ran(Scripted(1, range(BLAME), again=True), [task_of(0), task_of(1)])
    assert [outcome.error for _, outcome in done] == ["3 workers were lost at this picture (killed)", ""]


def test_without_a_worker_the_run_ends_with_its_reason():
    crew = Scripted(2, (1, 2))
    with pytest.raises(Problem, match="killed"):
        ran(crew, [task_of(seed) for seed in range(9)])
    assert crew.stopped == 1


def test_without_a_task_no_worker_starts():
    crew = Scripted(2)
    assert ran(crew, []) == [] and not crew.given


class Draws:
    """Worker that draws at once."""

    def __init__(self, *errors):
        self.errors, self.stopped = list(errors), False

    def start(self):
        if self.errors and isinstance(self.errors[0], Problem):
            raise self.errors.pop(0)

    def run(self, task):
        if self.errors:
            raise self.errors.pop(0)
        return Outcome(task.name.encode())

    def stop(self):
        self.stopped = True


@pytest.mark.parametrize("hands", [1, 2])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_threads_that_end_leave_their_tasks_to_the_others(hands):
    works = [Draws(Problem("it does not start")), Draws(TypeError("a fault")), Draws()]
    done = ran(Threads(works, hands), [task_of(seed) for seed in range(30)])
    assert len({name for name, _ in done}) == len(done) == 30 and all(work.stopped for work in works)
    with pytest.raises(Problem, match="it does not start"):
        ran(Threads([Draws(Problem("it does not start"))]), [task_of(0)])


def test_a_full_disk_ends_the_run_and_the_next_one_makes_the_rest(tmp_path, monkeypatch):
    tasks, records = [task_of(seed) for seed in range(20)], Records(tmp_path)
    write, written = records_write(), []

    def full(path, content):
        written.append(path)
        if len(written) > 9:  # of the fifth picture, the record
            write(path, content[:2])
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    work = Draws()
    with pytest.raises(Problem, match=r"The disk of .* is full: free some, and run the same command again"):
        Farm(tasks, Threads([work])).run(records.finish)
    monkeypatch.undo()
    assert work.stopped and len(pictures(tmp_path)) == 4 and not list(tmp_path.rglob("*.part"))
    survey = records.survey()
    left = [task for task in tasks if not survey.record(task.name, task.key)]
    assert len(left) == 16
    Farm(left, Threads([Draws(), Draws()])).run(records.finish)
    assert pictures(tmp_path) == {task.name: task.name.encode() for task in tasks}


def records_write():
    from pathlib import Path

    return Path.write_bytes
