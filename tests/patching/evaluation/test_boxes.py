"""Boxes of everything of a name, which detectors give."""

import torch
from likeness.patching.evaluation import detector
from PIL import Image


class Boxes(detector.Detector):
    """Detector with given boxes, as center, width and height."""

    def __init__(self, scores, corners, threshold=0.5):
        corners = torch.tensor(corners)
        boxes = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
        self.threshold, self.given = threshold, (torch.tensor(scores).logit(), boxes)

    def _found(self, picture, noun):
        return self.given


PICTURE = Image.new("RGB", (40, 40))
CORNERS = [[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 50, 30], [0, 20, 5, 25]]


def test_of_overlapping_boxes_the_better_stays_and_weak_ones_go():
    found = Boxes([0.7, 0.9, 0.6, 0.4], CORNERS)
    assert found.boxes(PICTURE, "dog") == [(1, 0, 11, 10), (20, 20, 40, 30)]  # inside the picture
    assert found.box(PICTURE, "dog") == found.boxes(PICTURE, "dog")[0]
    assert Boxes([0.1], CORNERS[:1]).boxes(PICTURE, "dog") == []
    assert len(Boxes([0.9, 0.8], [[5.0, 5, 5, 5]] * 2).boxes(PICTURE, "dog")) == 2
