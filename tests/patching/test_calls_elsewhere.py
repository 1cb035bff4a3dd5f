"""Calls on another device than the run's, as the host makes them where it divides the sides of guidance over GPUs.

The other device is PyTorch's meta device, which computes shapes alone and cannot be mixed with the CPU.
"""

from types import SimpleNamespace

import torch
from likeness.patching.features.positions import BESIDE
from likeness.patching.host.blocks import Layer
from likeness.patching.host.families import discover
from likeness.patching.host.rows import rows_of_call
from likeness.patching.host.shown import Shown
from likeness.patching.host.tokens import Tokens
from likeness.patching.jedi.coupling import Coupling
from likeness.patching.jedi.run import JointRun, JointSettings
from likeness.patching.layout_and_retouch.mask import MaskRun
from likeness.patching.layout_and_retouch.run import RetouchRun
from likeness.patching.layout_and_retouch.settings import RetouchSettings
from likeness.tests.patching.layout_and_retouch.retouch_runs import mask
from likeness.tests.patching.tiny_dits import tiny_dit
from likeness.tests.patching.tiny_models import tiny_model

HERE, ELSEWHERE = torch.device("cpu"), torch.device("meta")
SIZE = (8, 8)


def test_maps_of_another_device_belong_to_the_mask():
    running = MaskRun(mask(tokens=(1,), prompt_length=7), SIZE, HERE)
    elsewhere = MaskRun(mask(tokens=(1,), prompt_length=7), SIZE, ELSEWHERE)
    call = SimpleNamespace(sigma=5.0, rows=rows_of_call((True, False), 1))
    for made in (running, elsewhere):
        made.record(call, Layer("output", 3, 0), torch.rand(1, 64, 1), SIZE)
    assert running.at(4.0, SIZE).device == HERE
    ((_, kept),) = elsewhere._maps[5.0][Layer("output", 3, 0)]
    assert kept.device == ELSEWHERE


def test_the_mask_goes_where_a_call_is():
    run = RetouchRun(settings=RetouchSettings(lambda_2=1, lambda_3=1), lender=None, size=SIZE, levels=(5.0, 4.0))
    run.mask = MaskRun(mask(value=0.5), SIZE, HERE)
    shown = Shown(1, SIZE, 1, SIZE, (0,), (None, None))
    for device in (HERE, ELSEWHERE):
        call = SimpleNamespace(sigma=5.0, x=torch.zeros(2, 4, *SIZE, device=device), shown=shown, chunks=2)
        assert run.mask_of(call)((4, 4)).device == device


def coupling(model, **settings) -> Coupling:
    """The change of self-attention of a set of two pictures."""
    chosen = JointSettings(blocks=discover(model, "test"), **settings)
    run = JointRun(model, settings=chosen, references=(), members=(), count=2, sets=1, seed=3)
    return run.coupling("test", 5.0, None)


def test_the_tokens_that_pictures_see_go_where_a_call_is():
    made = coupling(tiny_model(), token_dropout=0.5)
    before = made.visible(SIZE, HERE)
    assert [tokens.device for tokens in made.visible(SIZE, ELSEWHERE)] == [ELSEWHERE] * 2
    for tokens, again in zip(before, made.visible(SIZE, HERE), strict=True):
        assert torch.equal(tokens, again) and len(tokens) == 32


def test_the_rotation_of_keys_goes_where_a_call_is():
    made = coupling(tiny_dit("flux"), positions=BESIDE)
    assert made.rotation((4, 4), HERE).device == HERE and made.rotation((4, 4), ELSEWHERE).device == ELSEWHERE


def test_a_layer_asks_for_the_tokens_of_its_own_device():
    asked = []

    def visible(size, device):
        asked.append((size, device))

    made = Coupling("test", 2, visible=visible)
    for device in (HERE, ELSEWHERE):
        made.attend(None, *torch.zeros(3, 2, 64, 8, device=device), lambda q, k, v, long: q, Tokens(SIZE))
    assert asked == [(SIZE, HERE), (SIZE, ELSEWHERE)]
