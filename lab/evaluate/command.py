"""`run.py evaluate`: the papers' evaluation on your own checkpoint, in steps that go on where they stopped."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...demo.launcher.files import Problem
from ...patching.evaluation.weights import DETECTORS
from ..farm import options as farm
from ..farm.crew import Crew
from . import device, given, pace, plan, protocol, score, simulate, smoke, steps, templates


def parser() -> argparse.ArgumentParser:
    """Arguments of all steps."""
    top = argparse.ArgumentParser(
        prog="run.py evaluate",
        description=__doc__,
        epilog=f"protocols: {', '.join(protocol.names())}\nmethods: {', '.join(templates.names())}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # `run.py` looks for --ray
    )
    top.add_argument("--smoke", action="store_true", help="evaluate the demo model, without any download")
    top.add_argument("--out", type=Path, default=Path("likeness_smoke"), help="folder of the smoke test")
    farm.add(top)
    parts = top.add_subparsers(metavar="plan | generate | score | report | simulate | pace")
    one = parts.add_parser("plan", help="lists the pictures, what they cost and what is missing; draws nothing")
    one.add_argument("--protocol", required=True, help="a protocol's name, or a JSON file of your own")
    one.add_argument("--data", type=Path, required=True, help="a folder with a folder of photos for each subject")
    one.add_argument("--methods", required=True, help="names and workflows in API format, separated by commas")
    one.add_argument("--checkpoint", default="", help="a file, or its name in ComfyUI's models")
    one.add_argument("--transformer", action="store_true", help="the checkpoint is a transformer's, such as SD 3.5")
    one.add_argument("--network", default="", help="in place of a checkpoint: a transformer's file, or its name")
    one.add_argument("--text-encoders", default="", help="with --network: one to three files, separated by commas")
    one.add_argument("--clip-type", default="", help="with --network: the type of CLIP Loader, such as lumina2 or flux")
    one.add_argument("--vae", default="", help="with --network: a file, or its name in ComfyUI's models")
    one.add_argument("--joint-checkpoint", default="", help="a checkpoint trained on sets, for jedi")
    one.add_argument("--loras", type=Path, help="a folder with SUBJECT.safetensors for each subject")
    one.add_argument("--embeddings", type=Path, help="a folder with SUBJECT.safetensors or .pt for each subject")
    one.add_argument("--models", type=Path, help="ComfyUI's folder of models")
    one.add_argument("--remote", action="store_true", help="the weights are a server's: take their names unchecked")
    one.add_argument("--dials", default="", help="strengths of methods: lora=0.4,0.7,1;jedi=5,10")
    one.add_argument("--only", default="", help="subjects, separated by commas")
    one.add_argument("--images-per-prompt", type=int, help="another number than the protocol's")
    one.add_argument("--out", type=Path, required=True)
    one.set_defaults(run=plan_step)
    two = parts.add_parser("generate", help="draws the pictures", allow_abbrev=False)
    two.add_argument("out", type=Path)
    farm.add(two)
    two.add_argument("--limit", type=int, help="pictures of each method, such as 3 for an estimate of the time")
    two.add_argument("--retry-failed", action="store_true")
    two.add_argument("--cpu", action="store_true", help="draw on the CPU")
    two.set_defaults(run=generate_step)
    three = parts.add_parser("score", help="computes the metrics")
    three.add_argument("out", type=Path)
    three.add_argument("--metrics", default="", help="names, separated by commas; all that are not optional")
    three.add_argument("--preset", help="score by another protocol")
    three.add_argument("--weights", type=Path, help="a folder of the metrics' weights")
    three.add_argument("--masks", type=Path, help="a folder of masks: SUBJECT/PHOTO.png, and the pictures' own names")
    three.add_argument("--detector", default="", help=f"finds the masks: {', '.join(DETECTORS)}")
    three.add_argument("--sam", default="", help="a checkpoint in models/sams, for masks inside the detector's boxes")
    three.add_argument("--image-reward-python", type=Path, help="the Python that has the package image-reward")
    three.set_defaults(run=score_step)
    four = parts.add_parser("report", help="writes report.html, report.md and result.json")
    four.add_argument("out", type=Path, nargs="+")
    four.add_argument("--preset", help="the protocol of the scores, where there are several")
    four.add_argument("--against", help="the row that the others are compared with; the first")
    four.set_defaults(run=lambda o: steps.reported([plan.read(folder) for folder in o.out], o.preset, o.against))
    five = parts.add_parser("simulate", help="measures queue and files with workers that only wait", allow_abbrev=False)
    five.add_argument("--out", type=Path, default=Path("likeness_simulated"))
    five.add_argument("--workers", type=int, default=64)
    five.add_argument("--pictures", type=int, default=100_000)
    five.add_argument("--seconds", type=float, default=0.0, help="that each picture takes")
    five.add_argument("--within", type=float, default=600.0, metavar="SECONDS", help="begin no picture after these")
    five.add_argument("--ray", metavar="local|auto|ADDRESS", help="wait in Ray's processes")
    five.set_defaults(run=simulate_step)
    six = parts.add_parser("pace", help="measures how much faster several workers draw than one", allow_abbrev=False)
    six.add_argument("--out", type=Path, default=Path("likeness_pace"))
    six.add_argument("--pictures", type=int, default=24, help="of each of the four runs (24)")
    farm.add(six)
    six.add_argument("--cpu", action="store_true", help="draw on the CPU")
    six.set_defaults(run=pace_step)
    return top


def main(arguments: list[str]) -> None:
    options = parser().parse_args(arguments)
    if not options.smoke and not hasattr(options, "run"):
        parser().error("name a step, plan, generate, score or report, or use --smoke")
    try:
        if options.smoke:
            smoke.run(options.out, options)
        else:
            options.run(options)
    except Problem as problem:
        raise SystemExit(f"evaluate: {problem}") from problem


def plan_step(options: argparse.Namespace) -> None:
    chosen = protocol.load(options.protocol)
    if options.images_per_prompt is not None:
        facts = {**chosen.facts, "images_per_prompt": options.images_per_prompt}
        chosen = protocol.checked(facts, options.protocol)
    methods = given.names(options.methods)
    separate = given.separate(options)
    weights = given.Weights.of(options, methods)
    made = plan.make(
        options.out,
        chosen,
        data=options.data,
        methods=methods,
        dials=given.dials(options.dials),
        files=weights.files,
        weights=weights.hashes,
        folders=weights.folders,
        only=given.names(options.only),
        separate=separate,
    )
    for sentence in [] if options.remote else weights.add_own(made):
        print(sentence)
    made.write()
    steps.describe(made)
    print(f"Next: run.py evaluate generate {options.out}")


def generate_step(options: argparse.Namespace) -> None:
    made = plan.read(options.out)
    cpu = bool(options.cpu)
    if not options.server and (cpu or options.ray in (None, "local")):  # others have devices of their own
        cpu, sentence = device.drawing(options.cpu)
        print(sentence)

    def crew() -> Crew:
        return farm.crew(options, options.out.resolve() / "work", made.facts["folders"], cpu=cpu)

    farm.check(options)
    steps.draw(made, crew, options.limit, options.retry_failed)


def score_step(options: argparse.Namespace) -> None:
    made = plan.read(options.out)
    name, sentence = device.embedding()
    print(sentence)
    if options.sam and not options.detector:
        raise Problem("--sam segments inside the boxes of a detector: name one with --detector, or leave --sam out.")
    places = score.Options(
        weights=options.weights,
        masks=options.masks,
        reward_python=options.image_reward_python,
        device=name,
        detector=options.detector,
        sam=options.sam,
    )
    steps.scored(made, options.preset, given.names(options.metrics), places)


def simulate_step(options: argparse.Namespace) -> None:
    figures = simulate.run(
        options.out,
        workers=options.workers,
        pictures=options.pictures,
        seconds=options.seconds,
        within=options.within,
        ray=options.ray,
    )
    for name, value in figures.items():
        print(f"{name:20} {value:g}")


def pace_step(options: argparse.Namespace) -> None:
    farm.check(options)
    if options.server:
        raise Problem("pace starts ComfyUIs of our own, and --server names yours: leave it out.")
    cpu, sentence = device.drawing(options.cpu)
    print(sentence)

    def crew(workers: int, work: Path) -> Crew:
        chosen = argparse.Namespace(**{**vars(options), "workers": workers})
        return farm.crew(chosen, work, {}, cpu=cpu)

    for name, value in pace.run(options.out, options.workers or 2, options.pictures, crew).items():
        print(f"{name:20} {value:g}")
