"""Errors leave nothing behind: no dead model in the host's list, no half of an inversion, and the next run is right."""

import gc
import sys
import weakref
from dataclasses import replace

import comfy.model_management
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from likeness.nodes.attention_maps import LikenessAttentionMaps
from likeness.nodes.palette import AppearancePalette
from likeness.patching.features.lending import BANKED
from likeness.patching.features.references import INVERTED, References
from likeness.patching.host.attach import attach
from likeness.patching.host.window import ALWAYS
from likeness.patching.layout_and_retouch.build import retouch
from likeness.patching.layout_and_retouch.settings import APPEND, NONE, RetouchSettings
from likeness.tests.patching.layout_and_retouch.retouch_runs import counting, reference, run
from likeness.tests.patching.pick_and_draw.guidance_runs import CAPTION, SIDE, SUBJECT, clip_of
from likeness.tests.patching.tiny_models import latent, tiny_model

SEED = 42


def as_the_host(act) -> str:
    """Runs an action and keeps its error as the host does: in a frame that the error's traceback holds."""
    try:
        act()
    except ValueError as error:
        kind, value, circle = sys.exc_info()
        message = f"{kind.__name__}: {error}"
        assert circle is not None and value is error
        return message
    return ""


def dead() -> set[int]:
    """Models that the host has lost while their weights live on, of which it warns in every prompt."""
    gc.collect()
    return {id(loaded) for loaded in comfy.model_management.current_loaded_models if loaded.is_dead()}


def divided():
    """A model whose cross-attention sees each picture in two rows."""

    def divide(n, context, value, options):
        return n.unflatten(1, (2, -1)).flatten(0, 1), torch.cat([context] * 2), torch.cat([value] * 2)

    model = tiny_model("sd1", seed=SEED).clone()
    model.set_model_attn2_patch(divide)
    model.set_model_attn2_output_patch(lambda n, options: n.unflatten(0, (-1, 2)).flatten(1, 2))
    return model


def palette(model):
    widgets = {"text": CAPTION, "word": SUBJECT, "source": "noised", "seed": 0, "threshold": 0.3, "weight": 1.0}
    places = {"blocks": "paper", "map_blocks": "decoder", "start_percent": 0.0, "end_percent": 1.0}
    return AppearancePalette.execute(model, clip_of(), latent=latent(1, SIDE, SIDE), **widgets, **places)


def maps(model):
    where = {"text": CAPTION, "word": SUBJECT, "blocks": "all", "group_by": "together", "seed": 0, "noise_levels": 1}
    return LikenessAttentionMaps.execute(
        model, clip_of(), latent(1, SIDE, SIDE), start_percent=0.2, end_percent=0.8, **where
    )


@pytest.mark.parametrize("node", [palette, maps])
def test_a_node_that_fails_in_a_pass_leaves_no_dead_model(node):
    plain, model, others = tiny_model("sd1", seed=SEED), divided(), dead()
    before = run(plain, steps=2)
    assert "HyperTile" in as_the_host(lambda: node(model))
    assert dead() <= others
    assert torch.equal(run(plain, steps=2), before)


class Broken:
    """A patch that clones the model and fails, before the run or in the middle of it."""

    node, window = "test", ALWAYS

    def __init__(self, early):
        self.early, self.seen = early, None

    def prepare(self, guider, noise, latent_image, sigmas, denoise_mask=None):
        clone = guider.model_patcher.clone()
        comfy.model_management.load_models_gpu([clone])
        self.seen = weakref.ref(clone)
        if self.early:
            raise ValueError("test: expected a run, got none.")
        return noise

    def __call__(self, call, forward):
        latents = call.x.clone()
        self.seen = weakref.ref(latents)
        raise ValueError("test: expected a run, got none.")


@pytest.mark.parametrize("early", [True, False])
def test_a_patch_that_fails_leaves_neither_models_nor_latents(early):
    patch, others = Broken(early), dead()
    model = attach(tiny_model("sd1", seed=SEED), patch)
    assert "expected a run" in as_the_host(lambda: run(model, steps=2))
    assert patch.seen() is None
    assert dead() <= others


class Stopping:
    """Fails in the nth call of the network."""

    likeness_identity = None

    def __init__(self, error, call):
        self.error, self.left = error, call

    def __call__(self, executor, *args, **kwargs):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return executor(*args, **kwargs)


ERRORS = {
    "interrupt": lambda: comfy.model_management.InterruptProcessingException(),
    "memory": lambda: comfy.model_management.OOM_EXCEPTION("test"),
    "sentence": lambda: ValueError("test: expected a run, got none."),
}


def inverted(model):
    return replace(reference(model, kind=INVERTED), inversion_steps=2)


def banked(model, item):
    settings = RetouchSettings(NONE, 0, 2, attention=APPEND, mode=BANKED)
    return retouch(model, References((item,)), None, None, settings)


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("early", [True, False])
def test_a_run_that_stops_keeps_nothing_and_the_next_is_right(name, early):
    """The second call is one of the inversion, the last one of the run."""
    model, error = tiny_model("sd1", seed=SEED), ERRORS[name]()
    counted, calls = counting(banked(model, inverted(model)))
    expected, item = run(counted, steps=2), inverted(model)
    patched = banked(model, item)
    stopping = patched.clone()
    stopping.add_wrapper(WrappersMP.DIFFUSION_MODEL, Stopping(error, 2 if early else len(calls)))
    with pytest.raises(type(error)):
        run(stopping, steps=2)
    assert bool(item.inversions) == (not early)
    assert not early or item.bank.size_in_bytes == 0
    assert torch.equal(run(patched, steps=2), expected)


def test_a_model_unloaded_between_nodes_is_recognized():
    model = tiny_model("sd1", seed=SEED)
    item = inverted(model)
    patched = banked(model, item)
    before = run(patched, steps=2)
    (inversion,) = item.inversions.values()
    comfy.model_management.unload_all_models()
    assert torch.equal(run(patched, steps=2), before)
    assert list(item.inversions.values()) == [inversion]
