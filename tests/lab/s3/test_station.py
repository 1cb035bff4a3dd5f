"""Workers of groups of steps, one after another in this process, and the groups of plans."""

import pickle
import shutil

import pytest
from likeness.benchmarks import command
from likeness.lab.s3 import make, smoke
from likeness.lab.s3.assembly import Made
from likeness.lab.s3.groups import ASKING, divided
from likeness.lab.s3.plan import Plan
from likeness.lab.s3.station import BLAME, Station


@pytest.fixture
def stations(tmp_path, monkeypatch):
    """Function that gives the workers of a plan's groups."""
    monkeypatch.setattr(command, "prepare_host", lambda: None)  # it would change the device of other tests

    def made(plan, slots, key="", run="one"):
        numbers = [row.number for row in plan.all_rows()]
        found = []
        for group in divided(plan, slots):
            one = Station(
                out=str(plan.folder),
                key=key or plan.key,
                numbers=numbers,
                steps=group.steps,
                place=str(tmp_path / "server"),
                models=str(tmp_path),
                metrics="",
                cpu=True,
                run=run,
            )
            one.start()
            found.append(one)
        return found

    return made


def through(workers, place):
    row = {"id": place}
    for worker in workers:
        row = worker.run(row)
    return row


@pytest.mark.parametrize("slots", [1, 2, 6])
def test_sets_of_several_workers_are_those_of_one(tmp_path, made_in, stations, slots):
    plan = made_in(tmp_path / "s3", facts=smoke.facts(sets=3, per_shard=3))
    expected = plan.shard(0).read_bytes()
    plan.shard(0).unlink()
    workers = stations(plan, slots)
    assert len(workers) == slots

    def streams(rows):
        for place in range(len(rows)):
            made = pickle.loads(through(workers, place)["state"])  # noqa: S301
            assert isinstance(made, Made)
            yield made

    make.run(plan, streams, at_once=2, say=lambda _: None)
    assert plan.shard(0).read_bytes() == expected and not list((plan.folder / "work").iterdir())


def test_a_set_that_loses_its_workers_fails(tmp_path, made_in, stations):
    plan = made_in(tmp_path / "s3", facts=smoke.facts(sets=1, per_shard=1))
    (worker,) = stations(plan, 1)
    begun = plan.work(0) / "0000000.collage-one.begun"
    begun.parent.mkdir(parents=True)
    begun.write_bytes(b"." * (BLAME - 1))
    assert not pickle.loads(through([worker], 0)["state"]).failed  # noqa: S301
    assert not begun.exists()
    begun.write_bytes(b"." * BLAME)
    assert pickle.loads(through([worker], 0)["state"]).failed == "collage: 3 workers were lost at this set"  # noqa: S301
    (other,) = stations(plan, 1, run="another")
    assert not pickle.loads(through([other], 0)["state"]).failed  # noqa: S301


def test_another_folder_under_the_same_path_is_one_sentence(tmp_path, made_in, stations):
    plan = made_in(tmp_path / "s3", facts=smoke.facts(sets=1, per_shard=1))
    for gone in (False, True):
        if gone:
            shutil.rmtree(plan.folder)
        row = through(stations(plan, 3, key="another"), 0)
        assert "does not see this run's folder" in row["problem"] and row["state"] == b""


def test_steps_are_parted_by_what_they_need():
    def groups(slots, **stages):
        facts = smoke.facts()
        facts["stages"] |= {name: {**facts["stages"][name], "by": by} for name, by in stages.items()}
        plan = Plan(None, facts)  # pyright: ignore[reportArgumentType]
        return [(group.steps, group.draws, group.workers) for group in divided(plan, slots)]

    whole = ("collage", "segment", "filter", "inpaint", "restyle", "caption")
    assert groups(1) == [(whole, True, 1)]
    assert groups(1, caption="endpoint") == [(whole[:5], True, 1), (("caption",), False, ASKING)]
    assert groups(2, collage="folder", segment="folder", caption="scene") == [
        (("collage", "segment", "filter"), True, 1),
        (("inpaint", "restyle", "caption"), True, 1),
    ]
    cheap = {"collage": "none", "segment": "folder", "filter": "none", "inpaint": "folder", "restyle": "none"}
    assert groups(4, **cheap, caption="scene") == [(whole, False, 1)]
    assert sum(workers for _, _, workers in groups(8)) == 8
    assert groups(8)[0] == (("collage",), True, 2)
