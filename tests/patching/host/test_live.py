"""The drawing of a run on its node: what each method sends to the graph editor."""

import base64
import sys
from types import SimpleNamespace

import comfy.sd1_clip
import pytest
import torch
from likeness.patching.features.word_maps import word_maps
from likeness.patching.host.live import EVENT, Live
from likeness.patching.host.notices import Notices
from likeness.patching.host.window import Window
from likeness.patching.layout_and_retouch.settings import FORK, NONE
from likeness.patching.pick_and_draw import reading
from likeness.tests.patching.editor import executing
from likeness.tests.patching.features.test_word_maps import Clip
from likeness.tests.patching.layout_and_retouch.retouch_runs import layout, mask, reference, retouched, run
from likeness.tests.patching.pick_and_draw.guidance_runs import guided, model_of, palette, recorded, sampled
from likeness.tests.patching.tiny_models import latent, tiny_model


class Server:
    """A stand-in for the host's server that keeps what is sent to the editor."""

    client_id = "editor"

    def __init__(self):
        self.sent: list[tuple[str, str, object]] = []

    def send_sync(self, event, data, client):
        assert event == EVENT and client == "editor"
        self.sent.append((data["node"], data["kind"], data["value"]))
        self.runner = data["runner"]

    def of(self, kind: str) -> list:
        return [value for _, found, value in self.sent if found == kind]


@pytest.fixture
def server(monkeypatch):
    listening = Server()
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=listening)))
    return listening


def test_equal_steps_are_one_part(server):
    Live(Notices("N", "7")).steps(["a", "a", "b", "a"])
    assert server.sent == [("7", "steps", [["a", 2], ["b", 1], ["a", 1]])] and server.runner is None


def test_a_drawing_names_the_node_whose_progress_is_the_runs(server):
    with executing("3"):
        Live(Notices("N", "7")).steps(["a"])
    assert server.runner == "3"


def test_a_map_is_sent_one_step_late_and_small(server):
    live = Live(Notices("N", "7"))
    live.map("mask", torch.ones(2, 8, 8))
    live.map("another", torch.ones(2, 8, 8))
    assert not server.sent
    live.map("mask", torch.zeros(1, 128, 96, dtype=torch.bool))
    live.finish()
    live.finish()
    first, other, second = server.of("map")
    assert [drawn["name"] for drawn in (first, other, second)] == ["mask", "another", "mask"]
    assert base64.b64decode(first["pixels"]) == b"\xff" * 64
    assert (second["width"], second["height"]) == (48, 64) and not any(base64.b64decode(second["pixels"]))


def test_without_an_editor_nothing_is_kept(server, monkeypatch):
    Live(Notices("N")).map("mask", torch.ones(1, 8, 8))
    monkeypatch.delitem(sys.modules, "server")
    unheard = Live(Notices("N", "7"))
    unheard.map("mask", torch.ones(1, 8, 8))
    assert not unheard._maps and not server.sent


@pytest.mark.usefixtures("as_the_host_runs")
def test_a_guided_run_draws_its_steps_losses_and_subject(server):
    model = model_of()
    patched, _ = guided(model, palette(model), recorded(), notices=Notices("N", "7"), every=2)
    sampled(patched)
    assert server.of("steps") == [[["guided: appearance and layout", 1], ["not guided", 1]]]
    (curves,), (drawn, heat) = server.of("curves"), server.of("map")
    assert {name: len(values) for name, values in curves.items()} == {"appearance": 1, "layout": 1}
    assert drawn["name"] == "generated subject" and 255 in base64.b64decode(drawn["pixels"])
    seen = base64.b64decode(heat["pixels"])
    assert heat["name"] == "attention to the word" and {0, 255} <= {*seen} and len({*seen}) > 2


def test_maps_of_attention_are_made_for_an_editor_alone(monkeypatch):
    made = []
    monkeypatch.setattr(reading, "mean_heatmap", lambda *args: made.append(args))
    model = model_of()
    patched, _ = guided(model, None, recorded(), notices=Notices("N"))
    sampled(patched)
    assert not made


def test_a_retouch_draws_its_steps_and_masks(server):
    model = tiny_model("sd1")
    _, path = layout(model)
    shown = mask(notices=Notices("Mask", "8"))
    options = {"layout": path, "mask": shown, "early_swap": FORK, "lambda_2": 1, "lambda_3": 2}
    run(retouched(model, [reference(model)], notices=Notices("Retouch", "7"), **options))
    assert server.of("steps") == [
        [["forked from the layout", 1], ["reference", 1], ["reference, background kept", 1]],
    ]
    (drawn,) = server.of("map")
    assert drawn["name"] == "mask of this step" and 255 in base64.b64decode(drawn["pixels"])
    assert [node for node, kind, _ in server.sent if kind == "map"] == ["8"]


def test_a_mask_that_follows_draws_what_it_follows(server):
    model = tiny_model("sd1")
    _, path = layout(model)
    shown = mask(notices=Notices("Mask", "8"), tokens=(2,), prompt_length=7)
    run(retouched(model, [reference(model)], layout=path, mask=shown, early_swap=NONE, lambda_2=1, lambda_3=1))
    drawn = {value["name"] for node, kind, value in server.sent if kind == "map" and node == "8"}
    assert drawn == {"mask of this step", "attention to the word"}


def test_the_map_of_a_word_is_drawn_while_it_grows(server):
    model, clip = tiny_model("sd1"), Clip(comfy.sd1_clip.SD1Tokenizer())
    options = {"text": "a red cat", "word": "cat", "blocks": "input1", "group_by": "together", "window": Window(0, 1)}
    unheard = word_maps(model, clip, latent(2), levels=3, seed=0, **options)
    assert not server.sent
    found = word_maps(model, clip, latent(2), levels=3, seed=0, notices=Notices("Maps", "7"), **options)
    assert torch.equal(found.heatmaps, unheard.heatmaps)
    assert server.of("steps") == [[["attention to the word", 3]]] and {node for node, *_ in server.sent} == {"7"}
    first, _, last = [base64.b64decode(drawn["pixels"]) for drawn in server.of("map")]
    y, x = divmod(int(found.heatmaps[0].argmax()), 64)
    assert first != last and last.index(255) == y // 8 * 8 + x // 8
