"""`run.py train`: trains one part of Tinyland, or all of them in order; every part resumes where it stopped.

Checkpoints and loss curves are in the work folder. A finished part is written again without training. A subject is
trained again if its base weights, its pictures or the trainer have changed.

`joint --sets FOLDER` trains a joint model (JeDi) of your own checkpoint instead; `sets` builds such a folder from your
own pictures.
"""

from __future__ import annotations

import argparse

from ...demo.launcher.files import Problem
from ...demo.training.command import EXTRAS, PARTS, device_of, train
from .arguments import SETS, parse


def main(arguments: list[str]) -> None:
    try:
        options = parse(arguments, (*PARTS, *EXTRAS), __doc__)
        if options.part == SETS:
            _build_sets(options)
        elif options.part == "joint" and options.sets is not None:
            _train_on_sets(options)
        else:
            train(options)
    except Problem as problem:
        raise SystemExit(f"run.py train: {problem}") from problem


def _build_sets(options: argparse.Namespace) -> None:
    from .build_sets import build

    build(
        options.pictures,
        options.backgrounds,
        options.out,
        options.count,
        options.size,
        options.set_sizes,
        options.seed,
        options.template,
    )


def _train_on_sets(options: argparse.Namespace) -> None:
    device = device_of(options)  # before anything loads the host
    from .checkpoint import check_output, open_source, write_joint
    from .finetune import Settings, train
    from .sources import find
    from .tinyland import NAME, open_tinyland

    check_output(options.out, options.checkpoint)
    sources = [find(folder) for folder in options.sets]
    source = open_tinyland() if str(options.checkpoint) == NAME else open_source(options.checkpoint)
    settings = Settings(
        options.steps or source.steps,
        options.resolution or source.resolution,
        options.batch,
        options.learning_rate or source.learning_rate,
        options.set_sizes,
        options.text_dropout,
        options.loss_on,
    )
    unet = train(options.work, sources, source, settings, device)
    write_joint(source, unet, options.out, settings.steps)
    print(f"written: {options.out}", flush=True)
