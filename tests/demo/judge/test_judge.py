"""Metrics of the judge against cases computed by hand, and the committed judge against unseen renders."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from likeness.demo.judge import Judge, Verdict, identity, layout_spread, prompt_accuracy, ranking_auc
from likeness.demo.judge.network import WEIGHTS, Network, _layout
from likeness.demo.training.judge import degrade, graded, resemblances, told_apart, views_of, warped
from likeness.demo.world.extras import EXTRAS
from likeness.demo.world.look_alikes import (
    GROUP,
    TINT_DISTANCE,
    VARIANTS,
    VIEWS,
    appearance,
    group_of,
    look_alike,
    resemblance,
    scene_of_group,
)
from likeness.demo.world.scene import CLASSES, COLORS, PATTERNS, PLACES, render, sample_scene, sample_subject
from likeness.demo.world.subjects import HELD_OUT, SUBJECTS

T = torch.tensor


def verdict(**fields) -> Verdict:
    n = len(next(iter(fields.values())))
    zeros = np.zeros(n, int)
    defaults = {
        "class_index": zeros,
        "colour_index": zeros,
        "pattern_index": zeros,
        "place_index": zeros,
        "extras": np.zeros((n, len(EXTRAS)), bool),
        "mask": np.zeros((n, 4, 4)),
        "embedding": np.eye(n),
        "center": np.zeros((n, 2)),
        "size": np.zeros(n),
    }
    return Verdict(**{**defaults, **fields})


def test_identity_is_the_cosine_to_the_mean_reference():
    seen = verdict(embedding=np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    references = verdict(embedding=np.array([[1.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_allclose(identity(seen, references), [0.5**0.5, 0.5**0.5, -(0.5**0.5)])


def test_layout_spread_by_hand():
    center = np.array([[0.2, 0.5], [0.6, 0.5], [np.nan, np.nan]])
    seen = verdict(center=center, size=np.array([0.3, 0.5, 0.0]))
    assert layout_spread(seen) == pytest.approx((0.2**2 + 0.1**2) ** 0.5)
    assert layout_spread(verdict(center=center[1:], size=np.array([0.5, 0.0]))) == 0.0


def test_prompt_accuracy_wants_everything_named():
    seen = verdict(class_index=np.array([1, 1, 2]), place_index=np.array([3, 4, 3]), colour_index=np.array([0, 0, 5]))
    wanted = {"class": CLASSES[1], "place": PLACES[3]}
    assert prompt_accuracy(seen, [wanted] * 3).tolist() == [True, False, False]
    assert prompt_accuracy(seen, [{"colour": next(iter(COLORS))}] * 3).tolist() == [True, True, False]
    with pytest.raises(ValueError, match="expected the wanted attributes of 3 pictures, got 1"):
        prompt_accuracy(seen, [wanted])


def test_prompt_accuracy_wants_every_extra_named_and_allows_others():
    there = np.zeros((3, len(EXTRAS)), bool)
    there[0, [0, 4]], there[1, 0] = True, True
    seen = verdict(extras=there)
    assert prompt_accuracy(seen, [{"extras": (EXTRAS[0], EXTRAS[4])}] * 3).tolist() == [True, False, False]
    assert prompt_accuracy(seen, [{"extras": ()}] * 3).all()
    named = {"class": CLASSES[0], "extras": [EXTRAS[0]]}
    assert prompt_accuracy(seen, [named, named, {**named, "extras": []}]).all()


def test_the_network_has_an_answer_for_every_value_of_the_world():
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    logits, _, _ = Network()(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    counts = {"class": CLASSES, "colour": COLORS, "pattern": PATTERNS, "place": PLACES, "extras": EXTRAS}
    assert {name: values.shape[1] for name, values in logits.items()} == {k: len(v) for k, v in counts.items()}
    seen = Judge(Network()).look(images)
    assert seen.extras.shape == (2, len(EXTRAS)) and seen.extras.dtype == bool
    assert sum(p.numel() for p in Network().parameters()) * 2 < 1.3e6  # bytes of the file, in half precision


def test_ranking_auc_by_hand():
    assert ranking_auc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    assert ranking_auc(np.array([0.5]), np.array([0.0, 1.0])) == 0.5
    assert ranking_auc(np.array([1.0]), np.array([1.0])) == 0.5


def test_layout_of_a_rectangle():
    mask = np.zeros((2, 10, 20))
    mask[0, 2:6, 10:20] = 1
    center, size = _layout(mask)
    np.testing.assert_allclose(center[0], [0.75, 0.4])
    assert size[0] == pytest.approx(0.2**0.5) and size[1] == 0 and np.isnan(center[1]).all()


def test_graded_by_brute_force():
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.randn(6, 5, generator=generator), dim=1)
    wanted = torch.rand(6, 6, generator=generator)
    errors = {True: [], False: []}
    for i in range(6):
        for j in range(6):
            if i != j:
                errors[bool(wanted[i, j] > 0.5)].append(float((embeddings[i] @ embeddings[j] - wanted[i, j]) ** 2))
    expected = sum(np.mean(found) for found in errors.values())
    assert float(graded(embeddings, wanted)) == pytest.approx(expected, rel=1e-5)
    assert float(graded(embeddings, embeddings @ embeddings.T)) == pytest.approx(0, abs=1e-10)


def test_look_alikes_that_pass_for_the_same_cost_most():
    wanted = T([[1, 1, 0.7, 0.1], [1, 1, 0.7, 0.1], [0.7, 0.7, 1, 0.1], [0.1, 0.1, 0.1, 1]])

    def loss(alike: float, stranger: float = 0.0) -> float:
        """Loss of two views of a subject at cosine 1, a look-alike and a stranger at given ones."""
        gram = T([[1, 1, alike, stranger], [1, 1, alike, stranger], [alike, alike, 1, 0], [stranger, stranger, 0, 1]])
        values, vectors = torch.linalg.eigh(gram)
        return float(told_apart(vectors * values.clamp(min=0).sqrt(), wanted))

    assert loss(0.98) > loss(0.9) > loss(0.6) > 0
    assert loss(0.5, stranger=0.3) == pytest.approx(loss(0.5), abs=1e-4)  # strangers are the graded loss's
    apart = T([[1.0, 0.0], [0.0, 1.0]])
    assert float(told_apart(apart, T([[1, 1], [1, 1]]))) > 10  # views of one subject must be near


def test_a_step_shows_each_group_by_its_subject_and_different_look_alikes():
    rng = np.random.default_rng(0)
    groups = np.array([0, 3, 7])
    seen = set()
    for _ in range(30):
        indices = views_of(groups, rng).reshape(3, -1, VIEWS)
        assert (indices // GROUP == groups[:, None, None]).all()
        variants = indices % GROUP // VIEWS
        assert (variants[:, 0] == 0).all() and (variants == variants[..., :1]).all()
        assert all(len(set(row[:, 0])) == len(row) for row in variants)
        assert (indices[..., 1] == indices[..., 0] + 1).all()
        seen |= set(variants.ravel().tolist())
    assert seen == set(range(VARIANTS))


def test_resemblance_is_one_for_the_same_and_counts_what_is_shared():
    subjects = [sample_subject(Random(seed)) for seed in range(40)]
    for subject, other in zip(subjects, subjects[1:] + subjects[:1], strict=True):
        assert resemblance(subject, subject) == 1 and resemblance(subject, other) == pytest.approx(
            resemblance(other, subject)
        )
        twin = look_alike(subject, Random(subject.name))
        assert 0.54 < resemblance(subject, twin) < 0.8
        assert 0 <= resemblance(subject, other) < 0.8
    plain = replace(subjects[0], pattern="plain", emblem=None)
    assert resemblance(plain, replace(plain, shade="another", emblem_color=(1, 2, 3))) == 1  # neither can be seen
    striped = replace(plain, pattern="striped")
    assert resemblance(plain, striped) == pytest.approx(0.632)
    assert resemblance(plain, replace(striped, name="another")) == pytest.approx(0.432)
    torch.testing.assert_close(resemblances([plain, striped]), torch.tensor([[1, 0.632], [0.632, 1]]))


def test_look_alikes_differ_visibly():
    for seed in range(40):
        subject = sample_subject(Random(seed))
        other = look_alike(subject, Random(seed + 1000))
        one, two = (render(sample_scene(Random(seed), subject=s)).image.astype(int) for s in (subject, other))
        assert (np.abs(one - two).sum(-1) > 12).sum() > 20
        assert other.name == subject.name and other.color == subject.color


def test_no_two_subjects_of_a_group_look_the_same():
    changed = set()
    for group in range(100):
        subjects = group_of(group, 7)
        seen = {appearance(s) for s in subjects}
        assert len(seen) == VARIANTS, subjects
        changed |= {f for s in subjects[1:] for f in vars(s) if getattr(s, f) != getattr(subjects[0], f)}
    assert changed == {"tint", "pattern", "shade", "emblem", "emblem_color"}


def test_training_pictures_stay_near_their_tint():
    torch.manual_seed(0)
    shifts = (degrade(torch.full((200, 3, 128, 128), 0.6)) - 0.6).mean((2, 3)).norm(dim=1) * 127.5
    assert shifts.median() < TINT_DISTANCE / 2


def test_waves_move_picture_and_mask_alike():
    torch.manual_seed(0)
    masks = torch.zeros(40, 1, 128, 128)
    masks[:, :, 40:90, 30:100] = 1
    images, moved = warped(masks.expand(-1, 3, -1, -1) * 2 - 1, masks)
    torch.testing.assert_close(images, moved.expand(-1, 3, -1, -1) * 2 - 1, rtol=1e-3, atol=1e-3)
    changed = (moved - masks).abs().mean((1, 2, 3))
    assert 0.05 < float((changed == 0).float().mean()) < 0.4 and 0.005 < float(changed.max()) < 0.1


def test_groups_hold_two_views_of_each_subject():
    scenes = [scene_of_group(i, 3) for i in range(GROUP)]
    for i in range(0, GROUP, VIEWS):
        assert scenes[i].subject == scenes[i + 1].subject and scenes[i].pose != scenes[i + 1].pose
    assert len({s.subject for s in scenes}) > 1


def test_refuses_other_pictures():
    with pytest.raises(ValueError, match="expected uint8 pictures"):
        Judge(Network()).look(np.zeros((1, 64, 64, 3), np.uint8))
    with pytest.raises(FileNotFoundError, match="expected the weights nothing"):
        Judge.load(WEIGHTS.with_name("nothing.safetensors"))


def test_truncated_and_foreign_weights_are_one_sentence(tmp_path):
    content = WEIGHTS.read_bytes()
    for damage in (
        content[: len(content) // 2],
        content[:100],
        b"",
        WEIGHTS.with_name("autoencoder.safetensors").read_bytes(),
    ):
        path = tmp_path / "judge.safetensors"
        path.write_bytes(damage)
        with pytest.raises(
            ValueError,
            match=r"^judge: expected the judge's whole weights, got judge.safetensors \([^\n]+\); .*files\.$",
        ):
            Judge.load(path)


def test_the_committed_judge_sees_what_is_there():
    scenes = [sample_scene(Random(f"judge-test-{i}")) for i in range(120)]
    renders = [render(s) for s in scenes]
    seen = Judge.load().look(np.stack([r.image for r in renders]))
    names = {"class": (CLASSES, "name"), "colour": (tuple(COLORS), "color"), "pattern": (PATTERNS, "pattern")}
    for attribute, (values, field) in names.items():
        right = [
            values[i] == getattr(s.subject, field)
            for i, s in zip(getattr(seen, f"{attribute}_index"), scenes, strict=True)
        ]
        assert np.mean(right) >= 0.95, attribute
    assert np.mean([PLACES[i] == s.place for i, s in zip(seen.place_index, scenes, strict=True)]) >= 0.98
    there = np.array([[name in scene.extras for name in EXTRAS] for scene in scenes])
    assert (seen.extras == there).mean(0).min() >= 0.95
    overlap = [
        np.minimum(m > 0.5, r.mask > 127).sum() / np.maximum(m > 0.5, r.mask > 127).sum()
        for m, r in zip(seen.mask, renders, strict=True)
    ]
    assert np.mean(overlap) > 0.85
    assert np.abs(seen.center - [[s.pose.x, s.pose.y] for s in scenes]).max() < 0.2  # extras hide some of a subject


def test_the_committed_judge_tells_subjects_apart():
    judge = Judge.load()
    views = judge.look(
        np.stack([render(scene_of_group(i, 5)).image for i in range(0, 60 * GROUP, GROUP) for i in (i, i + 1)])
    )
    vectors = views.embedding.reshape(60, 2, -1)
    scores = vectors[:, 0] @ vectors[:, 1].T
    assert ranking_auc(np.diag(scores), scores[~np.eye(60, dtype=bool)]) >= 0.99


def test_the_committed_judge_knows_the_subjects_that_nothing_was_trained_on():
    judge = Judge.load()
    known = {**HELD_OUT, **SUBJECTS}

    def look(scenes):
        return judge.look(np.stack([render(scene).image for scene in scenes]))

    references = {name: look(subject.training_scenes()) for name, subject in known.items()}
    for name, subject in HELD_OUT.items():
        varied = [sample_scene(Random(f"{name}-varied-{i}"), subject=subject.subject) for i in range(8)]
        seen = look(varied)
        scores = {other: identity(seen, reference) for other, reference in references.items()}
        own = scores.pop(name)
        assert own.min() > 0.9, name
        assert (own > np.max(list(scores.values()), axis=0) + 0.2).all(), name
