"""Cut Out, Same Subject and Assemble Set: what they give, and what they tell."""

import torch
from comfy_execution.graph_utils import ExecutionBlocker
from likeness.nodes import LikenessAssembleSet, LikenessCutOut, LikenessMetrics, LikenessSameSubject

MASK = torch.zeros(1, 32, 32)
MASK[:, 8:24, 8:24] = 1
DEFAULTS = ("each mask", 0.01, 0.8, "drop", "transparent")


def test_cut_outs_pass_the_filter_into_a_set():
    images, masks, text = LikenessCutOut.execute(torch.rand(1, 32, 32, 3), MASK, *DEFAULTS).args
    assert images[0].shape == (1, 16, 16, 4) and masks[0].shape == (1, 16, 16) and text == "1: 16 x 16 at 8, 8"
    judge = LikenessMetrics.execute("tinyland-judge", "none").args[0]
    kept, numbers, said = LikenessSameSubject.execute([judge], [images[0], images[0]], [0.9]).args
    assert len(kept) == 2 and numbers == [1, 2] and said.endswith("2 of 2 show one subject, by tinyland-judge")
    image, text, members = LikenessAssembleSet.execute(kept, ["a\nb"], [64]).args
    assert image.shape == (1, 128, 64, 3) and text == "a<|split|>b" and members == 2


def test_without_an_instance_the_node_tells_and_nothing_behind_it_runs(caplog):
    images, masks, text = LikenessCutOut.execute(torch.rand(1, 32, 32, 3), 0 * MASK, *DEFAULTS).args
    assert isinstance(images, ExecutionBlocker) and isinstance(masks, ExecutionBlocker)
    assert "less than 1.0%" in text and "Cut Out: no instance can be cut out, so that nothing behind" in caplog.text
