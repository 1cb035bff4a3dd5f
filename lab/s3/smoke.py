"""`run.py s3 --smoke`: every step on the demo's world, with its judge as the filter, without any download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...demo.world.scene import CLASSES
from ...patching.evaluation.judge import JUDGE
from . import make, makers, plan, prompts, show
from .plan import Plan
from .steps import Steps
from .tinyland import TinylandWriter

SETS = 48
THRESHOLD = 0.5
"""Cosine of the demo's judge; no published network has this scale."""


def facts(sets: int = SETS, per_shard: int = 16, **changes: Any) -> dict[str, Any]:
    """Facts of a plan in which stand-ins do every stage."""
    own = {"by": "tinyland"}
    found = {
        "format": plan.FORMAT,
        "sets": sets,
        "per_shard": per_shard,
        "seed": 0,
        "size": 128,
        "collage_size": 216,
        "set_sizes": [2, 3, 4],
        "format_of_pictures": "png",
        "prompts_per_object": 8,
        "objects": list(CLASSES),
        "stages": {
            "prompts": own,
            "collage": own,
            "segment": own,
            "filter": {"by": "network", "network": JUDGE, "threshold": THRESHOLD},
            "inpaint": own,
            "restyle": {"by": "tinyland", "share": 0.3, "styles": ["make it a black and white photograph"]},
            "caption": own,
        },
        "models": {},
    }
    return {**found, **changes}


def run(out: Path) -> None:
    """Plans, makes and shows. Raises Problem."""
    made = Plan(out, facts())
    made.write()
    bank = prompts.fill(made, made.facts["objects"], TinylandWriter())
    stages = makers.of(made, None, makers.embeds(made, None, "cpu"))
    make.run(made, make.here([Steps(made, stages, bank)]))
    print(f"written: {show.write(made)}")
    counts = show.totals(made)["counts"]
    print(", ".join(f"{name} {number}" for name, number in sorted(counts.items())))
