"""`run.py s3`: makes JeDi's data set of sets of one subject (S3), in steps that go on where they stopped."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ...demo.launcher.files import Problem
from ..evaluate import device
from ..farm import options as farm
from ..farm.servers import OwnServer, Server
from . import calibrate, check, choices, make, makers, plan, prompts, show, smoke, stream
from .plan import Plan
from .stages import Stages
from .steps import Steps
from .studio import Studio, tidy

_ABOUT = "a workflow of workflows/s3, or one in API format"


def parser() -> argparse.ArgumentParser:
    """Arguments of all steps."""
    top = argparse.ArgumentParser(prog="run.py s3", description=__doc__)
    top.add_argument("--smoke", action="store_true", help="make 48 sets of the demo's world, without any download")
    top.add_argument("--out", type=Path, default=Path("likeness_s3"), help="folder of the smoke test")
    parts = top.add_subparsers(metavar="plan | check | make | show | calibrate")
    one = parts.add_parser("plan", help="fixes objects and stages; makes nothing")
    one.add_argument("--objects", type=Path, help="text file with the name of an object on each line")
    one.add_argument("--sets", type=int, default=1000, help="number of sets (1000)")
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--prompts", default="template", help="template, FILE.jsonl, an endpoint's address, or " + _ABOUT)
    one.add_argument("--prompts-per-object", type=int, default=20, help="of each kind (20)")
    one.add_argument("--llm-model", default="", help="the endpoint's model")
    one.add_argument("--llm-key", default="", metavar="VARIABLE", help="environment variable with the endpoint's key")
    one.add_argument("--temperature", type=float, default=1.0, help="of the endpoint (1.0)")
    one.add_argument("--collage", default="sdxl", help="a folder OBJECT/NAME.png, none, or " + _ABOUT)
    one.add_argument("--segment", default="sam3", help="a folder of instances, DETECTOR+SAM, or " + _ABOUT)
    one.add_argument("--box-threshold", type=float, default=0.3, help="score of a detector's box (0.3)")
    one.add_argument(
        "--filter", default="clip-vit-base-patch32:0.85", help="NETWORK:COSINE below which pairs are dropped"
    )
    one.add_argument("--inpaint", default="sd15", help="a folder of backgrounds, or " + _ABOUT)
    one.add_argument("--restyle", default="0.3", help="probability, or PROBABILITY:WORKFLOW; 0 for none")
    one.add_argument("--styles", type=Path, help="text file with an instruction on each line")
    one.add_argument(
        "--caption",
        default="scene",
        help="scene, template, a folder, BLIP-2's folder, an endpoint's address, or " + _ABOUT,
    )
    one.add_argument("--template", default="a photo of a {name}", help="caption of template")
    one.add_argument("--weights", default="", help="files of the workflows: collage=FILE,inpaint=FILE")
    one.add_argument("--size", type=int, default=512, help="side of a member in pixels (512)")
    one.add_argument("--collage-size", type=int, default=1024, help="side of a collage in pixels (1024)")
    one.add_argument("--set-sizes", default="2,3,4", help="members of a set, drawn at random (2,3,4)")
    one.add_argument("--per-shard", type=int, default=plan.PER_SHARD, help="sets of a shard (1000)")
    one.add_argument("--format", choices=("png", "webp"), default="webp", help="of the pictures in the shards (webp)")
    one.add_argument("--seed", type=int, default=0)
    one.set_defaults(run=plan_step)
    for name, step, about in (
        ("check", check_step, "lists what is missing: weights, nodes, files, answers"),
        ("make", make_step, "makes the shards"),
        (
            "calibrate",
            calibrate_step,
            "compares cosines of one collage and of different ones, for the filter's threshold",
        ),
    ):
        two = parts.add_parser(name, help=about, allow_abbrev=False)  # `run.py` looks for --ray
        two.add_argument("out", type=Path)
        if name == "make":
            farm.add(two)
        else:
            two.add_argument("--server", nargs="+", metavar="HOST:PORT", help="ComfyUIs that run already")
        two.add_argument("--models", type=Path, help="ComfyUI's folder of models")
        two.add_argument("--metrics", type=Path, metavar="FOLDER", help="weights of the filter")
        two.add_argument("--cpu", action="store_true", help="draw on the CPU")
        if name == "make":
            two.add_argument("--shards", default="", help="numbers such as 0-9, to divide the work of several machines")
            two.add_argument("--skip-failed", action="store_true", help="leave out sets whose workflow fails")
            two.add_argument(
                "--demo-model", type=int, metavar="SETS", help="plan this many sets, drawn by the demo's model"
            )
        if name == "calibrate":
            two.add_argument("--sets", type=int, default=100, help="collages to look at (100)")
        two.set_defaults(run=step)
    three = parts.add_parser("show", help="writes a sheet of samples with what was dropped and why")
    three.add_argument("out", type=Path)
    three.add_argument("--count", type=int, default=40, help="sets on the sheet (40)")
    three.set_defaults(run=lambda o: print(f"written: {show.write(plan.read(o.out), o.count)}"))
    return top


def main(arguments: list[str]) -> None:
    options = parser().parse_args(arguments)
    if not options.smoke and not hasattr(options, "run"):
        parser().error("name a step, plan, check, make, show or calibrate, or use --smoke")
    try:
        if options.smoke:
            smoke.run(options.out)
        else:
            options.run(options)
    except Problem as problem:
        raise SystemExit(f"s3: {problem}") from problem


def plan_step(options: argparse.Namespace) -> None:
    stages = choices.stages(options)
    made = Plan(options.out, facts(options, stages))
    made.write()
    print(f"{made.sets} sets of {len(made.facts['objects'])} objects in {made.shards} shards.")
    for name, stage in stages.items():
        print(f"  {name}: {stage.get('name') or stage.get('network') or stage['by']}")
    print(f"Next: run.py s3 check {options.out}")


def facts(options: argparse.Namespace, stages: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Facts of a plan. Raises Problem."""
    for name, least in (("sets", 1), ("size", 64), ("collage_size", 64), ("per_shard", 1), ("prompts_per_object", 1)):
        if getattr(options, name) < least:
            flag = name.replace("_", "-")
            raise Problem(f"expected --{flag} of at least {least}, got {getattr(options, name)}: raise it.")
    try:
        sizes = sorted({int(part) for part in options.set_sizes.split(",")})
    except ValueError:
        sizes = [0]
    if sizes[0] < 1:
        raise Problem(f"--set-sizes is {options.set_sizes}, expected numbers such as 2,3,4: change it.")
    sources = choices.sources(stages)
    things = sorted({thing for thing, _ in sources}) if sources else None
    if things is None:
        if options.objects is None:
            raise Problem("The collages need objects to draw: name a list with --objects.")
        things = plan.objects(options.objects)
    found: dict[str, Any] = {
        "format": plan.FORMAT,
        "sets": len(sources) if sources else options.sets,
        "per_shard": options.per_shard,
        "seed": options.seed,
        "size": options.size,
        "collage_size": options.collage_size,
        "set_sizes": sizes,
        "format_of_pictures": options.format,
        "prompts_per_object": options.prompts_per_object,
        "objects": things,
        "stages": stages,
        "models": check.models(stages),
    }
    return {**found, "sources": sources} if sources else found


def check_step(options: argparse.Namespace) -> None:
    made = plan.read(options.out)
    servers = [Server(address) for address in options.server or ()]
    for server in servers:
        server.start()
    said = check.run(made, servers, check.models_folder(options.models), options.metrics)
    for sentence in said:
        print(sentence)
    if said:
        raise Problem(f"{len(said)} things are missing: add them, and check again.")
    print(f"Nothing is missing. Next: run.py s3 make {options.out}")


def make_step(options: argparse.Namespace) -> None:
    farm.check(options)
    made = plan.read(options.out) if options.demo_model is None else _demo_plan(options)
    chosen = _numbers(options.shards, made.shards)
    left = [number for number in chosen if not made.shard(number).is_file()]
    print(f"{made.shards} shards: {len(made.finished())} finished, {len(left)} to make now.")
    if not left:
        return
    if options.ray:
        _streamed(options, made, left)
    else:
        with ExitStack() as stack:
            studios, after = _studios(options, made, stack, options.workers)
            bank = _bank(made, left, studios[0])
            workers = [Steps(made, stages, bank) for stages in _workers(made, options, studios)]
            make.run(made, make.here(workers), left, options.skip_failed, after, say=_say)
    print(f"Finished: {len(made.finished())} of {made.shards} shards in {made.folder / 'shards'}.")


def _demo_plan(options: argparse.Namespace) -> Plan:
    """Plan whose sets the demo's model draws; a larger number of sets adds to those that are made. Raises Problem."""
    if options.demo_model < 1:
        raise Problem(f"--demo-model is {options.demo_model}, expected 1 or more sets: raise it.")
    from .drawn_world import facts as demo_facts  # which loads the host

    made = Plan(options.out, demo_facts(options.demo_model))
    made.write()
    return made


def _say(text: str) -> None:
    print(text, flush=True)


def _bank(made: Plan, shards: Sequence[int], studio: Studio | None) -> prompts.Bank | None:
    """Prompts of the objects of some shards; asks for those that are missing. Raises Problem."""
    if not makers.needs_prompts(made):
        return None
    things = dict.fromkeys(row.thing for number in shards for row in made.rows(number))
    return prompts.fill(made, things, makers.writer(made, "prompts", studio), _say)


def _streamed(options: argparse.Namespace, made: Plan, left: Sequence[int]) -> None:
    """Makes shards on Ray. Raises Problem."""
    cpu = bool(options.cpu)
    if cpu or options.ray == "local":  # a cluster has devices of its own
        cpu, sentence = device.drawing(options.cpu)
        print(sentence)
    with ExitStack() as stack:  # a server of this machine, for prompts alone
        asked = makers.needs_prompts(made) and made.stage("prompts")["by"] in makers.ON_SERVER
        _bank(made, left, _studios(options, made, stack)[0][0] if asked else None)
    with ExitStack() as stack:
        streams = stream.Stream(
            options.ray,
            made,
            models=check.models_folder(options.models),
            metrics=options.metrics,
            size=options.workers,
            per_gpu=None if cpu else options.per_gpu or 1,
        )
        stack.callback(streams.leave)
        for group in streams.groups:
            print(f"  {group.workers} x {', '.join(group.steps)}")
        make.run(made, streams, left, options.skip_failed, at_once=stream.AT_ONCE, say=_say)


def calibrate_step(options: argparse.Namespace) -> None:
    made = plan.read(options.out)
    with ExitStack() as stack:
        studios, _ = _studios(options, made, stack)
        (stages, *_) = _workers(made, options, studios[:1])
        if stages.embed is None:
            raise Problem("The plan has no filter to calibrate: plan with --filter NETWORK.")
        bank = None
        rows = calibrate.rows(made, options.sets)
        if makers.needs_prompts(made):
            bank = prompts.fill(made, [row.thing for row in rows], makers.writer(made, "prompts", studios[0]))
        print(f"written: {calibrate.run(made, stages, bank, rows)}")


def _workers(made: Plan, options: argparse.Namespace, studios: Sequence[Studio | None]) -> list[Stages]:
    """Stages of each server, which share the networks of this process."""
    name, sentence = device.embedding()
    if makers.in_process(made):
        print(sentence.replace("metrics are", "networks are"))
    embed = makers.embeds(made, options.metrics, name)
    shared = makers.shared(made, options.metrics, name)
    return [makers.of(made, studio, embed, shared) for studio in studios]


def _studios(
    options: argparse.Namespace, made: Plan, stack: ExitStack, workers: int | None = None
) -> tuple[Sequence[Studio | None], Callable[[], Any]]:
    """A studio for each server, and what tidies our own ones up. workers: servers of our own; without it one."""
    if not makers.needs_server(made):
        return [None], lambda: None
    bases: list[Path] = []
    if options.server:
        servers: list[Server] = [Server(address) for address in options.server]
    else:
        cpu, sentence = device.drawing(options.cpu)
        print(sentence)
        base = made.folder.resolve() / "server"
        bases = [base] if workers is None else [base / str(number) for number in range(workers)]
        models = {"models": str(check.models_folder(options.models).resolve())}
        servers = [OwnServer(base, models, cpu=cpu) for base in bases]
    for server in servers:
        stack.callback(server.stop)
        server.start()
    return [Studio(server) for server in servers], lambda: [tidy(base) for base in bases]


def _numbers(text: str, count: int) -> list[int]:
    """Numbers of shards of a text such as "0-9,12". Raises Problem."""
    if not text:
        return list(range(count))
    found: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            found += range(int(first), int(last if dash else first) + 1)
    except ValueError:
        found = []
    if not found or max(found) >= count or min(found) < 0:
        raise Problem(f"--shards is {text}, expected numbers from 0 to {count - 1}, such as 0-9: change it.")
    return found
