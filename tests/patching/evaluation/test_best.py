"""Choice of the best pictures: their order, their latents, and inputs that do not fit."""

import pytest
import torch
from likeness.patching.evaluation.best import keep_best

NAN = float("nan")
IMAGES = torch.arange(4.0)[:, None, None, None].expand(4, 8, 6, 3)
LATENT = {"samples": torch.arange(4.0)[:, None, None, None].expand(4, 2, 2, 2), "kind": "image"}


def values(images):
    return images[:, 0, 0, 0].tolist()


def test_the_best_come_first_and_their_numbers_are_told():
    kept = keep_best([IMAGES], [0.1, 0.7, NAN, 0.4], 2)
    assert values(kept.images) == [1, 3] and kept.numbers == [2, 4] and kept.latent is None
    assert kept.text.splitlines() == ["Picture 2 of 4: 0.700", "Picture 4 of 4: 0.400", "The others: 0.100 to 0.100"]


def test_of_equal_scores_the_first_is_kept_and_all_are_sorted():
    assert keep_best([IMAGES], [0.5, 0.5, 0.5, 0.5], 1).numbers == [1]
    assert values(keep_best([IMAGES[:3], IMAGES[3:]], [1, 3, 2, 3], 4).images) == [1, 3, 2, 0]


def test_a_list_of_sizes_gives_one_of_them():
    other = torch.full((1, 9, 9, 3), 7.0)
    assert keep_best([IMAGES, other], [0, 0, 0, 0, 1], 1).images.shape == (1, 9, 9, 3)
    with pytest.raises(
        ValueError, match=r"Keep the Best: expected pictures of one size, got 6 x 8 and 9 x 9; draw them"
    ):
        keep_best([IMAGES, other], [0, 0, 0, 0, 1], 2)


def test_latents_follow_with_their_noises_and_masks():
    mask = torch.arange(4.0)[:, None, None].expand(4, 16, 16)
    latent = keep_best([IMAGES], [0, 2, 1, 3], 2, [{**LATENT, "noise_mask": mask}]).latent
    assert latent is not None and latent["samples"][:, 0, 0, 0].tolist() == [3, 1] and latent["batch_index"] == [3, 1]
    assert latent["noise_mask"].shape == (2, 1, 16, 16) and latent["noise_mask"][:, 0, 0, 0].tolist() == [3, 1]
    assert latent["kind"] == "image" and "batch_index" not in LATENT
    again = keep_best([IMAGES[:2]], [0, 1], 2, [{"samples": latent["samples"], "batch_index": [3, 1]}]).latent
    assert again is not None and again["batch_index"] == [1, 3] and "noise_mask" not in again
    one = keep_best([IMAGES], [0, 2, 1, 3], 2, [{**LATENT, "noise_mask": mask[:1]}]).latent
    assert one is not None and one["noise_mask"].shape == (2, 1, 16, 16)


@pytest.mark.parametrize(
    ("scores", "count", "latents", "sentence"),
    [
        ([1, 2], 1, (), "expected one score for each of 4 pictures, got 2; connect"),
        ([1, 2, NAN, NAN], 3, (), "expected keep of at most 2, the number of pictures with a score, got 3; lower"),
        ([NAN] * 4, 1, (), "expected keep of at most 0"),
        ([1] * 4, 1, [{"samples": LATENT["samples"][:3]}], "expected a latent for each of 4 pictures, got 3; connect"),
    ],
)
def test_inputs_that_do_not_fit_are_one_sentence(scores, count, latents, sentence):
    with pytest.raises(ValueError, match=f"^Keep the Best: {sentence}"):
        keep_best([IMAGES], scores, count, latents)
