"""Every bundled method of `run.py evaluate` on a real ComfyUI: photos go up, one picture of each comes back."""

import pytest
from likeness.demo.launcher.files import Problem
from likeness.lab.evaluate import generate, plan, protocol, smoke, steps, subjects, templates
from likeness.lab.farm.servers import Server
from likeness.tests.lab.evaluate.crews import crew_of

SHORT = {
    "images_per_prompt": 1,
    "metrics": {"judge-prompt": protocol.load("tinyland").metrics["judge-prompt"]},
    "axes": ["judge-prompt"] * 2,
}


@pytest.fixture
def make(tmp_path):
    """Function that plans one picture of some methods, with three steps on the demo model."""
    data = smoke.write_data(tmp_path / "data")
    (data / "prompts.txt").write_text("a photo of a {} in the sea\n")

    def made(methods, photos):
        facts = protocol.load("tinyland").facts
        facts |= {
            **SHORT,
            "inputs": {"choice": "first", "count": photos},
            "sampling": {**facts["sampling"], "steps": 3},
        }
        found = plan.make(
            tmp_path / f"out{photos}",
            protocol.checked(facts, "short"),
            data=data,
            methods=methods,
            dials={},
            files={},
            weights={},
            folders={},
            only=["nemo"],
            replace=smoke.DEMO_NODES,
        )
        for row in found.facts["rows"].values():
            for node in row["graph"].values():
                node["inputs"] |= {"inversion_steps": 3} if "inversion_steps" in node["inputs"] else {}
        found.write()
        return found

    return made


@pytest.mark.slow
def test_every_method_draws_its_picture(make, client):
    few = [name for name in templates.names() if templates.load(name).references < 3]
    for methods, photos in ((few, 1), (["jedi-3"], 3)):
        made = make(methods, photos)
        steps.draw(made, crew_of(Server(client.address)))
        state = generate.state(made)
        assert (state.failed, state.todo, state.done) == ({}, [], len(methods))
        for name in methods:
            assert subjects.opened(made.folder / "images" / name / "nemo" / made_inputs(made) / "00-7.png").size == (
                128,
                128,
            )


def made_inputs(made) -> str:
    return next(iter(made.jobs())).name.split("/")[2]


def test_a_graph_that_the_server_refuses_is_a_result(make, client):
    made = make(["lora"], 1)
    made.facts["rows"]["lora"]["graph"]["2"]["class_type"] = "NoSuchNode"
    made.write()
    steps.draw(plan.read(made.folder), crew_of(Server(client.address)))
    (sentence,) = generate.state(plan.read(made.folder)).failed.values()
    assert "NoSuchNode" in sentence


def test_a_server_that_is_not_there_is_one_sentence(make):
    with pytest.raises(Problem, match=r"No ComfyUI answers at 127\.0\.0\.1:9"):
        steps.draw(make(["vanilla"], 1), crew_of(Server("127.0.0.1:9")))
