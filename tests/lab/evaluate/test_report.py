"""Report: its tables, its page, and folders that do not belong together."""

import json
import re

import numpy as np
import pytest
from likeness.demo.launcher.files import Problem
from likeness.lab.evaluate import projection, score, steps
from likeness.lab.evaluate.report import charts, summary
from likeness.lab.evaluate.score import Options
from likeness.lab.farm.records import Records
from likeness.tests.lab.evaluate.crews import crew_of


@pytest.fixture
def scored(make, fake_server):
    """Function that draws and scores a plan."""

    def run(methods=("lora", "vanilla"), out="out", metrics=("judge-identity", "judge-prompt"), **changes):
        plan = make(methods, out=out, only=["nemo"], **changes)
        plan.write()
        steps.draw(plan, crew_of(fake_server()))
        score.run(plan, plan.protocol, metrics, Options())
        return plan

    return run


def test_the_report_is_three_files(scored):
    plan = scored(dials={"lora": [0.5, 1.0]})
    steps.reported([plan])
    result = json.loads((plan.folder / "result.json").read_text())
    assert [row["name"] for row in result["rows"]] == ["lora@0.5", "lora@1", "vanilla"]
    assert result["against"] == "lora@0.5" and result["scored"] == result["drawn"] == plan.protocol.title
    assert {one["row"] for one in result["differences"]} == {"lora@1", "vanilla"}
    gains = [one for one in result["differences"] if one["metric"] == "judge-identity"]
    assert all(one["interval"] == [0, 0, 0] and one["pairs"] == 4 for one in gains), "all rows show the same pictures"
    text = (plan.folder / "report.md").read_text()
    assert plan.protocol.hash in text and "| vanilla |" in text and "photos against each other" in text


def test_the_page_works_from_the_disk(scored):
    plan = scored(metrics=())
    steps.reported([plan])
    page = (plan.folder / "report.html").read_text()
    assert "http://" not in page and "https://" not in page and not re.search(r"@\w+@", page)
    assert page.count("<svg") == 5 and plan.protocol.title in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1].replace("<\\/", "</"))
    cells = data["subjects"]["nemo"]["cells"]
    assert (
        set(cells) == {"lora", "vanilla"} and len(cells["lora"]) == 2 and len(data["subjects"]["nemo"]["photos"]) == 4
    )
    assert cells["lora"]["0"].startswith("data:image/webp;base64,")


def test_counts_stand_beside_the_means(scored, capsys):
    plan = scored()
    first, second = list(plan.jobs())[:2]
    for job in (first, second):
        (plan.folder / "images" / f"{job.name}.json").unlink()
    Records(plan.folder).fail(first.name, plan.key(first), "the mask is empty")
    score.run(plan, plan.protocol, ["judge-identity"], Options())
    steps.reported([plan])
    lora, vanilla = json.loads((plan.folder / "result.json").read_text())["rows"]
    assert (lora["pictures"], lora["failed"], lora["planned"]) == (2, 1, 4)
    assert (vanilla["pictures"], vanilla["failed"], vanilla["copied"]) == (4, 0, 0.0)
    assert "1 of 8 pictures are still to be drawn" in capsys.readouterr().out


def test_folders_of_one_protocol_share_a_table(scored):
    found = summary.summary(summary.parts([scored(), scored(["jedi"], "two")], None), "vanilla")
    assert [row["name"] for row in found["rows"]] == ["lora", "vanilla", "jedi"]
    assert {one["row"] for one in found["differences"]} == {"lora", "jedi"}


def test_folders_that_do_not_belong_together_are_refused(scored):
    first = scored()
    other = scored(["jedi"], "two", facts={"compare": "input"})
    for plans, sentence in (
        ([first, other], "was drawn by the protocol tinyland .*: their numbers do not compare"),
        ([first, first], "The row lora, vanilla is in two folders"),
    ):
        with pytest.raises(Problem, match=sentence):
            summary.parts(plans, None)
    with pytest.raises(Problem, match="There is no row jedi to compare with: use one of lora, vanilla"):
        summary.summary(summary.parts([first], None), "jedi")


def test_scores_of_two_protocols_are_not_mixed(scored):
    plan = scored()
    preset = type(plan.protocol)({**plan.protocol.facts, "name": "again", "compare": "input"})
    score.run(plan, preset, ["judge-identity"], Options())
    with pytest.raises(Problem, match=r"Expected one set of scores in .*, got again-.*, tinyland-.*: run"):
        summary.parts([plan], None)
    assert summary.summary(summary.parts([plan], "again"))["scored"] == preset.title
    with pytest.raises(Problem, match="got again"):
        summary.parts([plan], "dreambooth")


def test_the_same_protocol_again_is_no_second_set_of_scores(scored):
    plan = scored(facts={"images_per_prompt": 1})
    steps.scored(plan, "tinyland", ["judge-identity"])
    (part,) = summary.parts([plan], None)
    assert part.facts["title"] == plan.protocol.title and part.facts["metrics"] == ["judge-identity"]


def test_one_of_two_sets_of_scores_is_named_by_its_hash(scored):
    plan = scored()
    preset = type(plan.protocol)({**plan.protocol.facts, "compare": "input"})
    score.run(plan, preset, ["judge-identity"], Options())
    with pytest.raises(Problem, match="or name one of them with --preset"):
        summary.parts([plan], "tinyland")
    assert summary.parts([plan], f"tinyland-{preset.hash}")[0].facts["title"] == preset.title


def test_the_front_is_what_nothing_beats():
    points = {"a": (0.2, 0.9), "b": (0.5, 0.8), "c": (0.4, 0.7), "d": (0.7, 0.3), "e": (0.7, 0.3)}
    assert summary.front(points) == ["a", "b", "d", "e"]


def test_names_in_a_plot_do_not_cover_each_other():
    points = {name: ([0.5], [0.5]) for name in ("one", "two", "three")}
    picture = charts.pareto(points, {name: [name] for name in points}, [], ("dino", "clip-t"))
    heights = re.findall(r'y="([\d.]+)"[^>]*>(?:one|two|three)<', picture)
    assert len({float(y) for y in heights}) == 3


def test_principal_components_keep_the_largest_directions(monkeypatch):
    monkeypatch.setattr(projection, "method", lambda: "principal components")
    rng = np.random.default_rng(0)
    vectors = np.stack([rng.normal(0, scale, 200) for scale in (5.0, 0.1, 2.0)], axis=1)
    places = projection.project(vectors)
    assert abs(np.corrcoef(places[:, 0], vectors[:, 0])[0, 1]) > 0.99
    assert abs(np.corrcoef(places[:, 1], vectors[:, 2])[0, 1]) > 0.99
    assert projection.project(vectors[:1]).shape == (1, 2)
