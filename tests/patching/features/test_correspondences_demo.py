"""A point of the demo model's pictures looks at the same place of an identical picture, and of a mirrored one."""

import pytest
import torch
from likeness.nodes.demo_model import LikenessDemoModel, LikenessDemoSubject
from likeness.patching.features.correspondences import correspondences
from likeness.patching.features.looking import Point
from likeness.patching.host.window import Window
from likeness.patching.jedi.build import joint_guider
from likeness.tests.patching.jedi.joint_runs import WIDGETS

BELOW_THE_TAIL = Point(0, 0.3, 0.6)  # where the picture and its mirror image differ


@pytest.mark.usefixtures("as_the_host_runs")
def test_the_same_place():
    model, clip, vae = LikenessDemoModel.execute().args
    subject = LikenessDemoSubject.execute(model, subject="nemo", strength=0.0, scene="").args
    picture, prompt, negative = subject[1][:1], *(encoded(clip, text) for text in (subject[3], ""))

    def likenesses(reference: torch.Tensor) -> list[float]:
        """How like the picture's own map is to the reference's, as it is and mirrored."""
        guider = joint_guider(
            model,
            prompts=[prompt],
            negative=negative,
            references=[{"samples": vae.encode(reference)}],
            captions=[prompt],
            widgets=WIDGETS,
            node="Joint Guider",
        )
        made = {"samples": vae.encode(picture)}
        found = correspondences(
            guider,
            made,
            point=BELOW_THE_TAIL,
            blocks="all",
            group_by="size",
            window=Window(0.5, 0.9),
            levels=1,
            seed=0,
        )
        own, other = found.heatmaps[:2]  # of the finest layers
        return [correlation(own, other), correlation(own.flip(-1), other)]

    same, mirrored = likenesses(picture), likenesses(picture.flip(2))
    assert same[0] > 0.9 and same[0] > same[1] + 0.15
    assert mirrored[1] > 0.9 and mirrored[1] > mirrored[0] + 0.15


def encoded(clip, text: str) -> list:
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])
