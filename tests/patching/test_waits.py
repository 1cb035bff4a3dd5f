"""Code that runs in model calls neither waits for the device nor copies or allocates what a run could make once.

It reads the source, without ComfyUI: every function of `patching/` counts, unless it is named here with a reason.
"""

import ast
from collections import Counter
from pathlib import Path

import pytest

from .waits_of_code import waits

ROOT = Path(__file__).resolve().parents[2] / "patching"
MODULES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")}

APART = {
    "evaluation/": "judges finished pictures",
    "tinyland/": "loads the demo model",
    "subject/": "prepares photographs and prompts",
    "features/pictures.py": "prepares pictures and masks",
    "features/sheets.py": "draws finished maps",
    "host/checks.py": "checks inputs before a run",
    "host/facts.py": "reads files",
    "host/files.py": "writes files",
    "host/fingerprint.py": "names models before a run",
    "host/previews.py": "draws finished pictures",
    "host/schedules.py": "reads schedules before a run",
    "host/words.py": "finds words before a run",
    "jedi/noises.py": "compares noises before a run",
    "jedi/prompts.py": "joins prompts before a run",
    "layout_and_retouch/checks.py": "checks inputs before a run",
    "layout_and_retouch/idle.py": "tells idle inputs before a run",
    "layout_and_retouch/segment.py": "segments pictures before a run",
    "pick_and_draw/build_palette.py": "prepares masks",
    "pick_and_draw/loss_plot.py": "draws finished losses",
    "pick_and_draw/palette_file.py": "writes files",
    "pick_and_draw/saliency.py": "makes a mask of a finished map",
}
"""Files or folders of which nothing runs in a model call."""
OF_CALLS = {"Call", "Forward", "Step", "Evaluate", "Prediction", "Predict", "Tokens", "Attention", "JointAttention"}
"""Types of the arguments that only a model call has."""

BEFORE = "before the first model call"
AFTER = "after the last model call"
ONCE = "once per run, and for each prompt, size or picture"
LEVEL = "the noise level says what the call shall do"
FILLED = "filled on the device without a copy, for each call with a mask of its own"
ALLOWED = {  # function: (number of places, reason)
    "features/bank.py digest_of": (2, ONCE),
    "features/correspondences.py _shown": (1, AFTER),
    "features/correspondences.py _heat": (1, AFTER),
    "features/layer_probe.py probe": (1, AFTER),
    "features/layer_probe.py _judged": (5, AFTER),
    "features/looking.py Looks.numbers": (1, ONCE),
    "features/references.py tokens_inside": (2, "the mask lies in RAM"),
    "features/word_maps.py _grouped": (1, AFTER),
    "host/attach.py _AnsweredPredictions.__call__": (1, LEVEL),
    "host/attach.py _PatchedCalls.__call__": (1, LEVEL),
    "host/attach.py _GuidedSteps.__call__": (1, LEVEL),
    "host/dit.py DiT.rotation": (1, ONCE),
    "host/dit.py DiT.index_rotations": (1, FILLED),
    "host/dit_hook.py _four": (1, FILLED),
    "host/early_end.py ending.until": (1, BEFORE),
    "host/early_end.py _Descent.__call__": (1, "the end of the window is known by the noise level alone"),
    "host/frozen_autograd.py _differentiate": (2, "an overflow calls for another gradient at once"),
    "host/live.py Live._send": (1, "the copy has arrived"),
    "host/passes.py sample": (1, AFTER),
    "host/passes.py call_arguments": (1, ONCE),
    "host/run.py RunState.__init__": (1, BEFORE),
    "host/same.py same": (1, "equal options are mostly one object"),
    "jedi/filling.py Placed.__post_init__": (1, FILLED),
    "jedi/guider.py JointGuider.sample": (2, BEFORE),
    "jedi/guider.py JointGuider.predict_noise": (1, LEVEL),
    "jedi/run.py JointRun.__init__": (1, BEFORE),
    "jedi/step.py SetStep._beside": (1, LEVEL),
    "jedi/texts.py joined": (1, ONCE),
    "jedi/texts.py _mask": (2, ONCE),
    "layout_and_retouch/mask.py build_mask": (3, BEFORE),
    "layout_and_retouch/mask.py plain_mask": (2, BEFORE),
    "layout_and_retouch/mask.py preview": (1, BEFORE),
    "layout_and_retouch/path.py LayoutPath.check": (2, "these steps run no network"),
    "layout_and_retouch/path.py starting_noise": (3, BEFORE),
    "layout_and_retouch/personalized_phase.py RecordingGuider.outer_predict_noise": (1, LEVEL),
    "layout_and_retouch/retouch.py Retouch.prepare": (2, BEFORE),
    "layout_and_retouch/step_blended.py StepBlendedGuider.sample": (1, AFTER),
    "layout_and_retouch/step_blended.py StepBlendedGuider.outer_sample": (1, BEFORE),
    "layout_and_retouch/step_blended.py StepBlendedGuider.outer_predict_noise": (1, LEVEL),
    "layout_and_retouch/step_blended.py StepBlendedGuider.ended_with": (3, AFTER),
    "layout_and_retouch/vanilla_attention.py VanillaFeatures.unlike": (2, ONCE),
    "pick_and_draw/build_template.py record_template": (1, BEFORE),
    "pick_and_draw/build_template.py draw_template": (2, BEFORE),
    "pick_and_draw/guidance.py UREMDGuidance.prepare": (2, BEFORE),
    "pick_and_draw/loss_log.py LossLog.note": (1, "the numbers have arrived in RAM"),
    "pick_and_draw/loss_log.py LossLog._report": (2, "the numbers have arrived in RAM"),
    "pick_and_draw/loss_log.py LossLog._check_shifts": (1, AFTER),
    "pick_and_draw/loss_log.py LossLog.curve": (2, AFTER),
    "pick_and_draw/null_text.py null_text.descend": (2, "each of its gradients waits for its loss"),
    "pick_and_draw/palette.py joined": (1, ONCE),
    "pick_and_draw/parts.py part_of_step": (1, "the numbers lie in RAM"),
    "pick_and_draw/previews.py _palette_panel": (1, AFTER),
    "pick_and_draw/regions.py Regions._found": (2, "another pack's rows are told apart by their values alone"),
    "pick_and_draw/run.py _Moved.came_from": (1, "only for a second latent of one noise level"),
    "pick_and_draw/subject.py LevelReading._tokens": (1, "the number of the subject's tokens says what is kept"),
}


def test_code_of_model_calls_does_not_wait():
    found: Counter[str] = Counter()
    places: dict[str, list[str]] = {}
    for name, source in MODULES.items():
        if not name.startswith(tuple(APART)):
            for function, line, code in waits(source):
                found[f"{name} {function}"] += 1
                places.setdefault(f"{name} {function}", []).append(f"{name}:{line}: {code}")
    more = [place for name, count in found.items() if count > ALLOWED.get(name, (0, ""))[0] for place in places[name]]
    assert not more, "waits in code of model calls:\n" + "\n".join(more)
    stale = {name: allowed for name, (allowed, _) in ALLOWED.items() if found[name] < allowed}
    assert not stale, f"allowed, but no longer there: {stale}"


@pytest.mark.parametrize("place", APART)
def test_nothing_apart_runs_in_a_model_call(place):
    sources = {name: source for name, source in MODULES.items() if name.startswith(place)}
    assert sources, f"{place} is not there"
    for name, source in sources.items():
        assert not (found := list(functions_of_calls(source))), f"{name}: {found} run in model calls"


def functions_of_calls(source):
    """Functions that take what only a model call has, or that the host calls around one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            each = [*node.args.args, *node.args.kwonlyargs]
            named = {
                n.id for arg in each if arg.annotation for n in ast.walk(arg.annotation) if isinstance(n, ast.Name)
            }
            if named & OF_CALLS or "executor" in {arg.arg for arg in each}:
                yield node.name


def test_what_runs_in_a_model_call_is_found():
    """Every change of attention, tap and wrapper of the pack."""
    found = {name for name, source in MODULES.items() if any(functions_of_calls(source))}
    changes = {name for name, source in MODULES.items() if "SelfAttentionChange)" in source or "(Tap)" in source}
    assert changes and changes <= found
    assert {"host/attach.py", "host/unet.py", "host/dit_hook.py", "jedi/calls.py", "features/taps.py"} <= found


@pytest.mark.parametrize(
    "code",
    [
        "x.item()",
        "x[0].tolist()",
        "x.cpu()",
        'x.to("cpu", copy=True)',
        "x.to(y)",
        "x.to(y.device)",
        "x.to(y, non_blocking=False)",
        "x.to(device, torch.float32)",
        "torch.tensor(rows, device=x.device)",
        "torch.full((n,), 1.0, device=x.device)",
        "x.new_tensor(sigma)",
        "x[list(rows)]",
        "x[[0, 2]]",
        "x.nonzero()",
        "torch.equal(x, y)",
        "float(x.max())",
        "float(t[0])",
        "1 if x.any() else 2",
        "not x.isfinite().all()",
    ],
)
def test_a_wait_is_seen(code):
    assert len(list(waits(f"class A:\n    def b(self, x):\n        return {code}\n"))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "x.to(torch.float32)",
        "x.to(y.dtype)",
        "x.to(y.device, non_blocking=True)",
        "x.to(y, non_blocking=x.is_cuda)",
        "torch.full((2,), 1.0)",
        "x.new_full((2,), sigma)",
        "x[0]",
        "x[rows]",
        "float(max(levels))",
        "math.prod(size)",
        "bool(options)",
    ],
)
def test_other_code_is_not(code):
    assert not list(waits(f"def b(x):\n    return {code}\n"))
    assert not list(waits("LEVELS = table.tolist()"))
