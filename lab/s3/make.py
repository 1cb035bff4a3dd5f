"""Making of the shards: sets stream in order from the workers into a file that appears whole."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import islice
from queue import SimpleQueue
from typing import Any

from PIL import Image

from ...demo.launcher.files import Problem, try_lock
from ..evaluate.generate import duration
from ..farm.records import whole
from ..joint.shards import Entry, write_shard
from .assembly import Made, thumbnail
from .plan import Plan, Row
from .steps import Steps

SAMPLES = 16
"""First sets of each shard that leave their pictures, and what was dropped, for the sheet."""
Streams = Callable[[Sequence[Row]], Generator[Made, None, None]]
"""Rows -> their sets, in this order."""


def here(workers: Sequence[Steps]) -> Streams:
    """Streams of this process. Each worker has a thread; a few sets are made ahead of the one that is waited for."""
    free: SimpleQueue[Steps] = SimpleQueue()
    for steps in workers:
        free.put(steps)

    def one(row: Row) -> Made:
        steps = free.get()
        try:
            return steps.set(row)
        finally:
            free.put(steps)

    def streamed(rows: Sequence[Row]) -> Generator[Made, None, None]:
        if len(workers) == 1:
            yield from map(one, rows)
            return
        with ThreadPoolExecutor(len(workers)) as pool:
            running: deque[Future[Made]] = deque()
            try:
                for row in rows:
                    running.append(pool.submit(one, row))
                    if len(running) >= 2 * len(workers):
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            finally:
                for left in running:
                    left.cancel()

    return streamed


def run(
    plan: Plan,
    streams: Streams,
    shards: Iterable[int] | None = None,
    skip: bool = False,
    after: Callable[[], Any] = lambda: None,
    at_once: int = 1,
    say: Callable[[str], Any] = print,
) -> int:
    """Makes the shards that are not done; returns their number. Raises Problem, and the same call goes on.

    skip: a set whose stage fails is left out. after: called when a shard is done. at_once: shards in one stream, so
    that the next one begins while the last sets of this one are made.
    """
    left, made = iter(range(plan.shards) if shards is None else shards), 0
    while group := list(islice(left, at_once)):
        with ExitStack() as stack:
            claimed = [number for number in group if _claimed(plan, number, stack, say)]
            rows = [row for number in claimed for row in plan.rows(number)]
            sets = stack.enter_context(closing(streams(rows))) if rows else iter(())
            for number in claimed:
                say(_shard(plan, number, sets, skip, say))
                made += 1
                shutil.rmtree(plan.work(number), ignore_errors=True)  # before the others need the disk
                after()
        for number in group:  # Windows removes no lock that is held
            if plan.shard(number).is_file():
                shutil.rmtree(plan.work(number), ignore_errors=True)
    return made


def _claimed(plan: Plan, number: int, stack: ExitStack, say: Callable[[str], Any]) -> bool:
    """True for a shard that is to be made; its lock is held until the stack ends."""
    if plan.shard(number).is_file():
        return False
    work = plan.work(number)
    work.mkdir(parents=True, exist_ok=True)
    lock = stack.enter_context((work / "lock").open("a+b"))
    if not try_lock(lock):
        say(f"shard {number}: another run makes it")
        return False
    return not plan.shard(number).is_file()


def _shard(plan: Plan, number: int, sets: Iterator[Made], skip: bool, say: Callable[[str], Any]) -> str:
    """Makes one shard of the next sets, and returns a sentence on it."""
    rows, seen, dropped, reasons = plan.rows(number), set(), [], Counter()
    started = time.monotonic()

    def entries() -> Iterator[Entry]:
        for place, made in enumerate(islice(sets, len(rows)), 1):
            if made.failed:
                if not skip:
                    raise Problem(
                        f"The set {made.row.id} ({made.row.thing}) failed in {made.failed}: mend this and run the "
                        "same command again, or leave such sets out with --skip-failed."
                    )
                made = Made(made.row, "", dropped=f"failed: {made.failed}")
            if plan.stage("collage")["by"] != "none":
                made = _unless_seen(made, seen)
            if sampled(plan, made.row):
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

    path = plan.work(number) / "shard.tar"
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


def sampled(plan: Plan, row: Row) -> bool:
    """True for a set of the sheet."""
    return row.number % plan.facts["per_shard"] < SAMPLES


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
