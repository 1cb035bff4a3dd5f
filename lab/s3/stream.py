"""Streams of sets on Ray Data: each group of steps has workers of its own, and sets flow from one to the next."""

from __future__ import annotations

import logging
import os
import pickle
import uuid
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from ...demo.launcher.files import ROOT, Problem
from ..farm import actor
from ..farm.crew import AHEAD
from ..farm.session import Session, no_gpu
from ..farm.task import key_of
from .assembly import Made
from .groups import divided
from .plan import Plan, Row

AT_ONCE = 16
"""Shards of one stream: workers start once for all of them."""


class Stream:
    """Makes sets on the workers of Ray, whose machines share the disk of the plan's folder."""

    def __init__(
        self,
        address: str,
        plan: Plan,
        *,
        models: Path,
        metrics: Path | None,
        size: int | None = None,
        per_gpu: int | None = 1,
    ):
        """address: `local`, `auto`, or that of a cluster. models, metrics: folders of weights, which every machine has.
        size: workers that need a device; without it as many as the GPUs take. per_gpu: workers on one GPU; None for
        the CPU. Raises Problem."""
        self._plan = plan
        self._share = {"num_cpus": 1} if per_gpu is None else {"num_cpus": 0, "num_gpus": 1 / per_gpu}
        # Ray's core would tell on the terminal how Ray Data starts its actors.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        self._session = Session(address, (size or 1) + 2)
        room = None if per_gpu is None else self._session.gpus() * per_gpu
        slots = size or (1 if room is None else room)
        if not slots:
            self._session.leave()
            raise no_gpu()
        if address == "local" and room is not None and slots > room:  # a cluster may grow
            self._session.leave()
            raise Problem(f"--workers is {slots}, and the GPUs have room for {room}: lower it, or raise --per-gpu.")
        out = plan.folder.resolve()
        place = str(out / "server") if address == "local" else key_of(str(out))
        self._arguments = {
            "out": str(out),
            "key": plan.key,
            "place": place,
            "models": str(models.resolve()),
            "metrics": str(metrics.resolve()) if metrics else "",
            "cpu": per_gpu is None,
            "run": uuid.uuid4().hex[:8],
        }
        self.groups = divided(plan, slots)

    def __call__(self, rows: Sequence[Row]) -> Generator[Made, None, None]:
        """Sets of the rows, in their order. Raises Problem."""
        errors, waiting, told = self._session.ray.exceptions, dict[int, Made](), 0
        try:
            for row in self._data(rows).iter_rows():
                if row["problem"]:
                    raise Problem(row["problem"])
                waiting[row["id"]] = pickle.loads(row["state"])  # noqa: S301 - made by a process of this run
                while told in waiting:  # Ray keeps the order, so no more than one waits
                    yield waiting.pop(told)
                    told += 1
        except errors.RayTaskError:
            raise
        except errors.RayError as error:
            reason = str(error).strip().splitlines()[0]
            raise Problem(f"Ray lost a worker for good ({reason}): run the same command again to go on.") from error

    def _data(self, rows: Sequence[Row]) -> Any:
        """Data set of Ray in which each row is a block of its own, so that it moves on as soon as it is made."""
        import ray.data as data  # pyright: ignore[reportMissingImports]

        context = data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        found = data.range(len(rows), override_num_blocks=len(rows))
        numbers = [row.number for row in rows]
        for group in self.groups:
            arguments = {**self._arguments, "steps": group.steps, "numbers": numbers}
            found = found.map(
                actor.Station,
                fn_constructor_args=(str(ROOT), "lab.s3.station:Station", arguments),
                compute=data.ActorPoolStrategy(size=group.workers, max_tasks_in_flight_per_actor=AHEAD),
                **(self._share if group.draws else {"num_cpus": 0.1}),
            )
        return found

    def leave(self) -> None:
        self._session.leave()
