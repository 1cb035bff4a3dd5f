"""Worker without a model, for processes of their own: its answers tell the task and the process."""

import os
import signal
import time

from likeness.demo.launcher.files import Problem
from likeness.lab.farm.task import Outcome

MAKER = "tests.lab.farm.echo:Echo"


class Echo:
    def __init__(self, refuses: str = ""):
        self.refuses = refuses

    def start(self) -> None:
        print("what a worker prints is no answer")
        if self.refuses:
            raise Problem(self.refuses)

    def run(self, task) -> Outcome:
        """Does what the task's output says: `die` and `break` end the process, `once FILE` dies if there is no file."""
        kind, _, rest = task.output.partition(" ")
        if kind == "die" or (kind == "once" and not os.path.exists(rest)):
            if rest:
                open(rest, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "break":
            raise RuntimeError("a defect")
        if kind == "sleep":
            time.sleep(float(rest))
        if kind == "fail":
            return Outcome(error=rest)
        return Outcome(f"{task.name}\n".encode() * 9, facts={"pid": os.getpid()})
