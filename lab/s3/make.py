"""Making of the shards: sets stream in order from the workers into a file that appears whole."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from PIL import Image

from ...demo.launcher.files import Problem, try_lock
from ..evaluate.generate import duration
from ..farm.records import whole
from ..joint.shards import Entry, write_shard
from .assembly import Kept, Made, assemble, thumbnail
from .plan import Plan, Row
from .prompts import Bank
from .stages import Stages
from .studio import StageFailed

SAMPLES = 16
"""First sets of each shard that leave their pictures, and what was dropped, for the sheet."""
Streams = Callable[[Callable[[Row], Made], Sequence[Row], int], Iterator[Made]]
"""(function, rows, workers) -> results in the order of the rows. A cluster's scheduler can take the place of this."""


def streamed(function: Callable[[Row], Made], rows: Sequence[Row], workers: int) -> Iterator[Made]:
    """Results in the order of the rows; a few are made ahead of the one that is waited for."""
    if workers == 1:
        yield from map(function, rows)
        return
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[Made]] = deque()
        try:
            for row in rows:
                running.append(pool.submit(function, row))
                if len(running) >= 2 * workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for left in running:
                left.cancel()


def run(
    plan: Plan,
    workers: Sequence[Stages],
    bank: Bank | None,
    shards: Iterable[int] | None = None,
    skip: bool = False,
    after: Callable[[], Any] = lambda: None,
    streams: Streams = streamed,
    say: Callable[[str], Any] = print,
) -> int:
    """Makes the shards that are not done; returns their number. Raises Problem, and the same call goes on.

    workers: stages of each worker. skip: a set whose stage fails is left out. after: called when a shard is done.
    """
    made = 0
    for number in range(plan.shards) if shards is None else shards:
        with ExitStack() as stack:
            work = plan.folder / "work" / f"{number:06d}"
            if plan.shard(number).is_file():
                shutil.rmtree(work, ignore_errors=True)
                continue
            work.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((work / "lock").open("a+b"))
            if not try_lock(lock):
                say(f"shard {number}: another run makes it")
                continue
            if not plan.shard(number).is_file():
                say(_shard(plan, number, work, workers, bank, skip, streams, say))
                made += 1
        shutil.rmtree(work, ignore_errors=True)
        after()
    return made


def _shard(
    plan: Plan,
    number: int,
    work: Path,
    workers: Sequence[Stages],
    bank: Bank | None,
    skip: bool,
    streams: Streams,
    say: Callable[[str], Any],
) -> str:
    """Makes one shard, and returns a sentence on it."""
    free: SimpleQueue[Stages] = SimpleQueue()
    for stages in workers:
        free.put(stages)
    kept, started = Kept(plan, work), time.monotonic()

    def one(row: Row) -> Made:
        stages = free.get()
        try:
            return assemble(plan, stages, bank, row, kept)
        except StageFailed as error:
            if not skip:
                raise Problem(
                    f"The set {row.id} ({row.thing}) failed in {error}: mend this and run the same command again, or "
                    "leave such sets out with --skip-failed."
                ) from error
            return Made(row, "", dropped=f"failed: {error}")
        finally:
            free.put(stages)

    rows, seen, dropped, reasons = plan.rows(number), set(), [], Counter()

    def entries() -> Iterator[Entry]:
        for place, made in enumerate(streams(one, rows, len(workers)), 1):
            if plan.stage("collage")["by"] != "none":
                made = _unless_seen(made, seen)
            if place <= SAMPLES:
                whole(plan.folder / "samples" / f"{made.row.id}.json", json.dumps(sample(made)).encode())
            for instance in made.instances:
                reasons["instances"] += 1
                reasons["dropped instances"] += "dropped" in instance
            if made.dropped:
                dropped.append(made.facts())
            else:
                yield Entry(made.row.id, made.members, made.captions, made.facts())
            if place % 10 == 0 and place < len(rows):
                pace = (time.monotonic() - started) / place
                say(f"shard {number}: {place}/{len(rows)} sets, about {duration(pace * (len(rows) - place))} left")

    path = work / "shard.tar"
    count = write_shard(path, entries(), plan.facts["format_of_pictures"])
    facts = {
        "plan": plan.key,
        "sets": count,
        "counts": dict(sorted(reasons.items())),
        "dropped": dropped,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "models": plan.facts["models"],
    }
    whole(plan.shard(number).with_suffix(".json"), json.dumps(facts, indent=1, ensure_ascii=False).encode())
    os.replace(path, plan.shard(number))
    return f"shard {number}: {count} sets of {len(rows)}, {len(dropped)} dropped"


def _unless_seen(made: Made, seen: set[tuple[str, str]]) -> Made:
    """Set, or no set where an earlier one of the shard has the same collage of the same object."""
    if not made.hash or made.dropped:
        return made
    mark = (made.row.thing, made.hash)
    if mark in seen:
        return Made(made.row, made.prompt, dropped="its collage equals an earlier one's", hash=made.hash)
    seen.add(mark)
    return made


def sample(made: Made) -> dict[str, Any]:
    """Facts and small pictures of a set for the sheet."""

    def shown(picture: Image.Image, side: int = 96) -> str:
        return base64.b64encode(thumbnail(picture, side)).decode()

    return {
        **made.facts(),
        "collage_shown": shown(made.collage, 168) if made.collage is not None else "",
        "cuts_shown": [shown(cut) for cut in made.cuts],
        "members_shown": [shown(Image.fromarray(one), 160) for one in made.members],
        "captions": list(made.captions),
    }
