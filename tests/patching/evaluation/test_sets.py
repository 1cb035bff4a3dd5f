"""Sets as joint models are trained on, and the placement of their subjects."""

from random import Random

import numpy as np
import pytest
import torch
from likeness.patching.evaluation.assembled import assembled
from likeness.patching.evaluation.placement import pasted, placed
from likeness.patching.evaluation.sets import divided, joined, member
from PIL import Image


def test_members_are_middle_squares_from_top_to_bottom():
    wide = torch.zeros(1, 64, 128, 3)
    wide[:, :, 32:96] = 1
    image, text, members = assembled([wide, torch.full((2, 64, 64, 3), 0.2)], ["a\nb", "c"], 64)
    assert image.shape == (1, 192, 64, 3) and members == 3 and text == "a<|split|>b<|split|>c"
    assert image[0, :64].min() == 1 and abs(float(image[0, 100, 5, 0]) - 0.2) < 1 / 255
    assert assembled([wide, wide], ["a mug"], 64)[1] == "a mug<|split|>a mug"
    assert divided(assembled([wide, wide], [""], 64)[1]) == ("", "")


def test_captions_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one for each of 3 pictures, got 2; change captions"):
        assembled([torch.zeros(3, 8, 8, 3)], ["a\nb"], 64)
    with pytest.raises(ValueError, match=r"expected captions without <\|split\|>, got 'a <\|split\|> b'; change"):
        assembled([torch.zeros(1, 8, 8, 3)], ["a <|split|> b"], 64)
    with pytest.raises(ValueError, match="which separates them"):
        joined(["a <|split|> b"])


def test_a_placed_subject_is_pasted_where_it_is_opaque():
    cut = Image.new("RGBA", (20, 10), (250, 0, 0, 255))
    subject = placed(cut, 100, Random(3))
    alpha = np.asarray(subject)[..., 3] > 127
    assert subject.size == (100, 100) and 0.1 <= alpha.mean() <= 0.41
    made = np.asarray(pasted(subject, Image.new("RGB", (100, 100), (0, 0, 9))))
    assert (made[alpha][:, 0] > 200).all() and (made[np.asarray(subject)[..., 3] == 0] == (0, 0, 9)).all()
    assert placed(cut, 100, Random(3)).tobytes() == subject.tobytes() != placed(cut, 100, Random(4)).tobytes()


def test_a_member_of_another_shape_is_cropped():
    picture = Image.new("RGB", (10, 40), "white")
    picture.paste((0, 0, 0), (0, 15, 10, 25))
    assert member(picture, 16).shape == (16, 16, 3) and member(picture, 16).max() == 0
