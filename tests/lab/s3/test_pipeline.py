"""The whole pipeline on stand-ins: what the filter drops, and the same bytes after every interruption."""

import json
from dataclasses import replace

import numpy as np
import pytest
from likeness.demo.judge import ranking_auc
from likeness.demo.launcher.files import Problem
from likeness.lab.joint.shards import facts, read_shard
from likeness.lab.s3 import calibrate, show, smoke
from likeness.lab.s3.plan import Plan
from likeness.lab.s3.steps import Steps
from likeness.lab.s3.studio import StageFailed
from likeness.lab.s3.tinyland import Tinyland


def bytes_of(plan) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (plan.folder / "shards").iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, judge):
    """Eight sets in two shards, made without an interruption."""
    from likeness.lab.s3 import make, makers, prompts
    from likeness.lab.s3.tinyland import TinylandWriter

    plan = Plan(tmp_path_factory.mktemp("whole"), smoke.facts(sets=8, per_shard=4))
    plan.write()
    bank = prompts.fill(plan, plan.facts["objects"], TinylandWriter(), lambda _: None)
    make.run(plan, make.here([Steps(plan, makers.of(plan, None, judge), bank)]), say=lambda _: None)
    return plan


def test_shards_have_square_members_with_captions_of_their_object(whole):
    sets = [one for number in range(2) for one in read_shard(whole.shard(number))]
    assert [one.key for one in sets] == [row.id for row in whole.all_rows()][: len(sets)]
    known = {key: one for number in range(2) for key, one in facts(whole.shard(number)).items()}
    for one in sets:
        assert 2 <= one.members <= 4 and one.pictures(128).shape == (one.members, 128, 128, 3)
        assert all(known[one.key]["object"] in caption for caption in one.captions)
        assert len(set(one.captions)) == one.members  # different backgrounds
    assert not list((whole.folder / "work").iterdir())


def test_the_filter_drops_impostors_and_nothing_else(tmp_path, judge):
    """Similarity of right instances to the others of their collage, against that of impostors."""
    from likeness.lab.s3.stages import Stages
    from likeness.lab.s3.steps import same

    plan = Plan(tmp_path, smoke.facts(sets=24))
    world = Tinyland(plan)
    stages = Stages(world.collage, world.segment, judge, world.background, world.restyle, world.caption)
    right, wrong, lost, missed = [], [], 0, 0
    for row in plan.all_rows():
        cuts = world.segment(row, world.collage(row, ""))
        _, _, panel = world.truth(row)
        assert len(cuts) == 4
        said, kept = same(plan, stages, cuts)
        similar = np.array([one["similarity"] for one in said])
        wrong += [similar[panel]] if panel >= 0 else []
        right += [value for i, value in enumerate(similar) if i != panel]
        lost += sum(i not in kept for i in range(4) if i != panel)
        missed += panel in kept
    auc = ranking_auc(np.array(right), np.array(wrong))
    print(f"AUC {auc:.4f}, {len(wrong)} impostors, {missed} missed, {lost} right ones dropped")
    assert len(wrong) >= 6 and auc > 0.97 and lost == 0 and missed < len(wrong) / 2


def test_several_workers_give_the_same_bytes(whole, tmp_path, made_in):
    assert bytes_of(made_in(tmp_path, workers=3)) == bytes_of(whole)


def test_a_shard_made_alone_is_the_same(whole, tmp_path, made_in):
    plan = made_in(tmp_path, shards=[1])
    assert bytes_of(plan) == {name: content for name, content in bytes_of(whole).items() if "000001" in name}


@pytest.mark.parametrize("stage", ["collage", "background", "caption"])
def test_a_run_that_stops_goes_on_with_the_same_bytes(whole, tmp_path, made_in, stage):
    calls = []

    def stopping(stages):
        def one(*arguments):
            calls.append(arguments[0].id)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return getattr(stages, stage)(*arguments)

        return replace(stages, **{stage: one})

    with pytest.raises(KeyboardInterrupt):
        made_in(tmp_path, change=stopping)
    assert not list(tmp_path.glob("shards/*.tar")) and len(list(tmp_path.glob("work/000000/*.png"))) >= 1
    before = len(calls)
    plan = made_in(tmp_path, change=stopping)
    assert bytes_of(plan) == bytes_of(whole)
    total = 8 if stage == "collage" else sum(one.members for n in range(2) for one in read_shard(plan.shard(n)))
    assert len(calls) - before == total - 3  # what was made is not made again


def test_a_failing_stage_stops_the_run_or_leaves_its_set_out(tmp_path, made_in):
    def failing(stages):
        def one(row, prompt):
            if row.number == 2:
                raise StageFailed("collage-sdxl: KSampler (node 5): not a number")
            return stages.collage(row, prompt)

        return replace(stages, collage=one)

    with pytest.raises(Problem, match=r"The set 0000002 \(\w+\) failed in collage-sdxl: KSampler .*--skip-failed"):
        made_in(tmp_path, change=failing)
    plan = made_in(tmp_path, change=failing, skip=True)
    assert "0000002" not in [one.key for one in read_shard(plan.shard(0))]
    (dropped,) = json.loads(plan.shard(0).with_suffix(".json").read_text())["dropped"]
    assert dropped["dropped"] == "failed: collage-sdxl: KSampler (node 5): not a number"


def test_equal_collages_of_an_object_are_one_set(tmp_path, made_in):
    facts_ = smoke.facts(sets=3, per_shard=3, objects=["fish"])
    plan = made_in(
        tmp_path,
        facts=facts_,
        change=lambda stages: replace(stages, collage=lambda row, prompt: stages.collage(Plan.row(PLAN, 0), prompt)),
    )
    assert [one.key for one in read_shard(plan.shard(0))] == ["0000000"]
    said = json.loads(plan.shard(0).with_suffix(".json").read_text())
    assert [one["dropped"] for one in said["dropped"]] == ["its collage equals an earlier one's"] * 2


PLAN = Plan(None, smoke.facts(sets=3, objects=["fish"]))  # pyright: ignore[reportArgumentType]


def test_collages_without_two_of_one_subject_are_dropped_with_the_reason(tmp_path, made_in):
    facts_ = smoke.facts(sets=2, per_shard=2)
    facts_["stages"]["filter"] = {"by": "network", "network": "tinyland-judge", "threshold": 1.0}
    plan = made_in(tmp_path, facts=facts_)
    assert read_shard(plan.shard(0)) == []
    said = json.loads(plan.shard(0).with_suffix(".json").read_text())["dropped"]
    assert [one["dropped"] for one in said] == ["1 of 4 instances show one subject"] * 2
    lost = show.totals(plan)["objects"]
    assert lost == {row.thing: "1 of 1 sets dropped" for row in plan.all_rows()}
    assert "less than 1" in said[0]["instances"][1]["dropped"] or "less than 1" in said[0]["instances"][0]["dropped"]


def test_two_runs_do_not_make_one_shard(tmp_path, made_in):
    from likeness.demo.launcher.files import try_lock

    (tmp_path / "work" / "000000").mkdir(parents=True)
    with (tmp_path / "work" / "000000" / "lock").open("a+b") as other:
        assert try_lock(other)
        plan = made_in(tmp_path)
    assert plan.finished() == [1]
    assert made_in(tmp_path).finished() == [0, 1]


def test_the_sheet_shows_what_was_dropped_and_why(whole, tmp_path, made_in):
    page = show.write(whole).read_text(encoding="utf-8")
    assert "0000000" in page and "data:image/webp;base64," in page and "2 of 2 shards" in page
    assert show.totals(whole)["counts"]["sets"] == 8 - show.totals(whole)["counts"]["dropped sets"]
    with pytest.raises(Problem, match=r"There are no sets in .* yet: make some with"):
        show.write(Plan(tmp_path, whole.facts))


def test_calibration_tells_one_collage_from_others(tmp_path, judge):
    from likeness.lab.s3 import makers

    plan = Plan(tmp_path, smoke.facts(sets=8, objects=["fish", "car"]))
    said: list[str] = []
    path = calibrate.run(plan, makers.of(plan, None, judge), None, calibrate.rows(plan, 6), said.append)
    found = json.loads(path.read_text())
    assert found["auc"] > 0.8 and found["pairs"]["same collage"] == 36 and "threshold" in said[1]
    assert found["kept"]["0.500"][0] > found["kept"]["0.500"][1]
    with pytest.raises(Problem, match=r"gave 6 pairs of one collage and 0 of different ones"):
        calibrate.run(plan, makers.of(plan, None, judge), None, calibrate.rows(plan, 1), said.append)
