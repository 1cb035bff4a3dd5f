"""Worker of a group of steps in a process of Ray, with the ComfyUI and the networks that these steps need."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Any, BinaryIO

from ...demo.launcher.files import Problem, try_lock
from ...demo.launcher.install import cache_folder
from ..farm.farm import BLAME
from ..farm.servers import OwnServer
from . import makers, prompts
from .assembly import Made
from .make import sampled
from .plan import Plan, Row, read
from .stages import STEPS
from .steps import Draft, Steps
from .studio import StageFailed, Studio, tidy


class Station:
    """Takes sets through a group of steps. A row has its place, and the draft as bytes or the numbers of its sets."""

    def __init__(
        self,
        out: str,
        key: str,
        numbers: Sequence[int],
        steps: Sequence[str],
        place: str,
        models: str,
        metrics: str,
        cpu: bool,
        run: str,
    ):
        """out, key: folder of the plan, and its key. numbers: of the sets, by the places of their rows. place: folder
        of servers; a relative one is below the cache of its machine. metrics: folder of weights, or empty. run: name of
        this run."""
        self._out, self._key, self._numbers, self._names = out, key, numbers, steps
        self._place, self._models, self._metrics, self._cpu, self._run = place, models, metrics, cpu, run
        self._problem, self._base, self._lock = "", None, None
        self._plan: Plan
        self._steps: Steps

    def start(self) -> None:
        """Starts the server. Each row tells where this cannot be."""
        try:
            self._plan = self._seen()
            self._steps = self._ready()
        except Problem as problem:
            self._problem = str(problem)

    def _seen(self) -> Plan:
        """Plan of this run. Raises Problem."""
        with suppress(Problem):
            if (found := read(Path(self._out))).key == self._key:
                return found
        raise Problem(
            f"{socket.gethostname()} does not see this run's folder {self._out}: put it on a disk that all machines "
            "share."
        )

    def _ready(self) -> Steps:
        plan, studio, embed = self._plan, None, None
        shared: dict[str, Any] = {}
        if makers.in_process(plan, self._names):
            sys.path.insert(0, os.environ["COMFYUI_PATH"])
            from ...benchmarks.command import prepare_host
            from ..evaluate import device

            prepare_host()
            metrics, name = Path(self._metrics) if self._metrics else None, device.embedding()[0]
            embed = makers.embeds(plan, metrics, name) if "filter" in self._names else None
            shared = makers.shared(plan, metrics, name, self._names)
        if any(plan.stage(step)["by"] in makers.ON_SERVER for step in self._names):
            self._base, self._lock = _claimed(cache_folder() / "farm" / self._place)
            server = OwnServer(self._base, {"models": self._models}, self._cpu)
            server.start()
            studio = Studio(server)
        stages = makers.of(plan, studio, embed, shared, self._names)
        return Steps(plan, stages, prompts.bank(plan) if makers.needs_prompts(plan) else None)

    def run(self, row: dict[str, Any]) -> dict[str, Any]:
        """Row after the steps. A set that failed goes through unchanged, and so does the sentence of a problem."""
        problem = row.get("problem") or self._problem
        content = row.get("state", b"")
        if not problem:
            try:
                content = pickle.dumps(self._after(content, row["id"]), pickle.HIGHEST_PROTOCOL)
            except Problem as error:
                problem = str(error)
        return {"id": row["id"], "problem": problem, "state": b"" if problem else content}

    def _after(self, content: bytes, place: int) -> Draft | Made:
        # Made by another process of this run.
        draft = pickle.loads(content) if content else Draft(self._plan.row(self._numbers[place]))  # noqa: S301
        if isinstance(draft, Made):
            return draft
        try:
            with self._counted(draft.row):
                draft = self._steps.taken(draft, self._names)
        except StageFailed as error:
            return Made(draft.row, "", failed=str(error))
        finally:
            tidy(self._base)
        if (draft.dropped or draft.members) and not sampled(self._plan, draft.row):
            draft = replace(draft, found=(), collage=None)  # only the sheet still needs them
        return draft.made(self._plan.size) if self._names[-1] == STEPS[-1] else draft

    @contextmanager
    def _counted(self, row: Row) -> Iterator[None]:
        """Counts the attempts of this run at a set: Ray repeats one whose worker was lost for as long as it is."""
        work = self._plan.work(row.number // self._plan.facts["per_shard"])
        work.mkdir(parents=True, exist_ok=True)
        path = work / f"{row.id}.{self._names[0]}-{self._run}.begun"
        with path.open("ab") as file:
            file.write(b".")
        if path.stat().st_size > BLAME:
            raise StageFailed(f"{self._names[0]}: {BLAME} workers were lost at this set")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _claimed(place: Path) -> tuple[Path, BinaryIO]:
    """Folder for a server of this process and the lock on it. Removes those of processes that are gone."""
    place.mkdir(parents=True, exist_ok=True)
    own = place / f"{socket.gethostname()}-{os.getpid()}.lock"
    for path in place.glob(f"{socket.gethostname()}-*.lock"):
        with suppress(OSError), path.open("a+b") as other:
            if path != own and try_lock(other):
                rmtree(path.with_suffix(""), ignore_errors=True)
                path.unlink()
    while True:
        lock = own.open("a+b")
        if try_lock(lock) and own.exists() and os.path.samestat(os.fstat(lock.fileno()), own.stat()):
            return own.with_suffix(""), lock
        lock.close()
        time.sleep(0.05)  # another process looks whether this one is gone, and may have removed the file
