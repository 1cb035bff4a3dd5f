"""Plans: what the command line fixes, and what it refuses in one sentence."""

import json

import pytest
from likeness.lab.s3 import command, plan
from likeness.lab.s3.make import run
from likeness.lab.s3.stages import Given
from PIL import Image


@pytest.fixture
def given(tmp_path):
    """Folder with the files that a user may give."""
    (tmp_path / "objects.txt").write_text("coffee mug  # with a handle\n\n# comment\ndog\ncoffee   mug\n")
    for name in ("collages/red_fish/a.png", "cuts/coffee_mug/one/1.png", "cuts/coffee_mug/one/2.png", "back/sea.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGBA", (40, 30), (200, 30, 30, 255)).save(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "back" / "sea.txt").write_text("in the sea")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "styles.txt").write_text("make it blue\n")
    return tmp_path


def planned(given, *arguments: str) -> plan.Plan:
    command.main(["plan", "--out", str(given / "out"), *[part.replace("@", f"{given}/") for part in arguments]])
    return plan.read(given / "out")


def test_a_plan_fixes_objects_stages_and_models(given, capsys):
    made = planned(given, "--objects", "@objects.txt", "--sets", "2500", "--weights", "collage=my_sdxl.safetensors")
    assert made.facts["objects"] == ["coffee mug", "dog"] and made.shards == 3 and len(made.rows(2)) == 500
    assert [row.thing for row in made.rows(0)[:4]] in (["dog", "coffee mug"] * 2, ["coffee mug", "dog"] * 2)
    assert made.row(2001).turn == 1000 and made.row(7).id == "0000007"
    graph = made.stage("collage")["graph"]
    assert graph["1"]["inputs"]["ckpt_name"] == "my_sdxl.safetensors"
    assert made.facts["models"]["filter"] == "clip-vit-base-patch32, MIT"
    assert "SAM License" in made.facts["models"]["segment"] and "not known here" in made.facts["models"]["collage"]
    assert "2500 sets of 2 objects in 3 shards" in capsys.readouterr().out
    more = planned(given, "--objects", "@objects.txt", "--sets", "9000", "--weights", "collage=my_sdxl.safetensors")
    assert more.key == made.key  # more sets are more shards


def test_finished_shards_keep_their_plan(given):
    made = planned(given, "--objects", "@objects.txt")
    made.shard(0).parent.mkdir()
    made.shard(0).write_bytes(b"")
    planned(given, "--objects", "@objects.txt", "--sets", "3000")
    with pytest.raises(SystemExit, match=r"has 1 finished shards of another plan: give --out another folder"):
        planned(given, "--objects", "@objects.txt", "--seed", "1")
    (given / "out" / "plan.json").write_text(json.dumps({"format": 0}))
    with pytest.raises(SystemExit, match=r"has the format 0, expected 1: plan again with this version"):
        command.main(["make", str(given / "out")])
    with pytest.raises(SystemExit, match=r"There is no plan in .*empty: make one with"):
        command.main(["show", str(given / "empty")])


FILES = ("--segment", "@cuts", "--collage", "none", "--inpaint", "@back", "--restyle", "0", "--filter", "none")


def test_every_stage_may_be_files(given):
    """Instances, backgrounds and a template: no server and no network."""
    made = planned(given, *FILES, "--caption", "template", "--size", "64", "--format", "png", "--set-sizes", "2")
    assert made.facts["objects"] == ["coffee mug"] and made.sets == 1
    command.main(["check", str(given / "out")])
    command.main(["make", str(given / "out")])
    from likeness.lab.joint.shards import read_shard

    (one,) = read_shard(made.shard(0))
    assert one.captions == ("a photo of a coffee mug in the sea",) * 2 and one.pictures(64).shape == (2, 64, 64, 3)
    before = made.shard(0).read_bytes()
    assert run(made, [], None) == 0  # nothing is left
    made.shard(0).unlink()
    command.main(["make", str(given / "out"), "--shards", "0"])
    assert made.shard(0).read_bytes() == before
    (given / "back" / "sea.png").unlink()
    (given / "cuts" / "coffee_mug" / "one" / "1.png").rename(given / "1.png")
    with pytest.raises(SystemExit, match="1 things are missing: add them, and check again"):
        command.main(["check", str(given / "out")])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "The collages need objects to draw: name a list with --objects."),
        (["--objects", "@none.txt"], "There is no list of objects .*none.txt: write one name on each line"),
        (["--objects", "@binary.txt"], "binary.txt is no text in UTF-8: save it as one"),
        (["--objects", "@back/sea.txt", "--sets", "0"], "expected --sets of at least 1, got 0: raise it"),
        (["--objects", "@objects.txt", "--set-sizes", "2,x"], "--set-sizes is 2,x, expected numbers such as 2,3,4"),
        (["--objects", "@objects.txt", "--filter", "clip:0.8"], "--filter is clip:0.8, expected NETWORK:COSINE with a"),
        (["--objects", "@objects.txt", "--filter", "dino-vits16:x"], "expected NETWORK:COSINE"),
        (["--objects", "@objects.txt", "--restyle", "2"], "--restyle is 2, expected a probability such as 0.3"),
        (["--objects", "@objects.txt", "--styles", "@no.txt"], "There is no file .*no.txt: correct --styles"),
        (["--objects", "@objects.txt", "--collage", "x"], "There is no workflow x of the stage collage: use sdxl, or"),
        (["--objects", "@objects.txt", "--collage", "none"], "--collage none needs cut-out instances: give --segment"),
        (["--collage", "@empty"], "has no pictures OBJECT/NAME.png: put them there, one sub-folder for each object"),
        (["--objects", "@objects.txt", "--weights", "x=y"], "--weights has 'x=y', expected STAGE=FILE with a stage"),
        (["--collage", "@collages", "--weights", "collage=y"], "has a file for collage, which no workflow does"),
        (["--objects", "@objects.txt", "--prompts", "http://host/v1"], "--prompts names an endpoint, and no model"),
        (["--objects", "@objects.txt", "--caption", "template", "--template", "x"], "expected {name} in --template"),
        (["--objects", "@objects.txt", "--segment", "owlv2-base-patch16-ensemble"], "finds boxes: name a checkpoint"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_choices_that_do_not_fit_are_one_sentence(given, arguments, sentence):
    with pytest.raises(SystemExit, match=rf"^s3: .*{sentence}" if sentence[0] != "T" else sentence):
        planned(given, *arguments)
    assert not (given / "out").exists()


def test_collages_of_the_user_are_sets_of_their_folders(given):
    made = planned(given, "--collage", "@collages")
    assert [(row.thing, row.source.endswith("red_fish/a.png")) for row in made.all_rows()] == [("red fish", True)]
    with pytest.raises(SystemExit, match="--shards is 0-4, expected numbers from 0 to 0, such as 0-9: change it"):
        command.main(["make", str(given / "out"), "--shards", "0-4"])


def test_what_is_missing_is_listed_with_size_license_and_folder(given, capsys):
    planned(given, "--objects", "@objects.txt")
    with pytest.raises(SystemExit, match="5 things are missing"):
        command.main(["check", str(given / "out"), "--models", str(given), "--metrics", str(given)])
    said = capsys.readouterr().out
    assert "collage: there is no sd_xl_base_1.0.safetensors in " in said and "6.9 GB, CreativeML Open RAIL++-M" in said
    assert "filter: Expected the weights clip-vit-base-patch32 (605 MB, MIT)" in said


def test_missing_detectors_and_segmenters_are_listed_as_such(given, capsys):
    planned(given, "--collage", "@collages", "--segment", "grounding-dino-tiny+no.pth", *FILES[4:])
    with pytest.raises(SystemExit, match="2 things are missing"):
        command.main(["check", str(given / "out"), "--models", str(given), "--metrics", str(given)])
    said = capsys.readouterr().out
    assert "segment: Expected the weights grounding-dino-tiny (689 MB, Apache-2.0)" in said
    assert "expected a Segment Anything checkpoint" in said and "got 'no.pth'" in said


def test_cut_outs_of_drawn_collages_have_the_id_of_their_set(given):
    made = planned(given, "--objects", "@objects.txt", "--segment", "@cuts")
    (given / "cuts" / "coffee_mug" / "one").rename(given / "cuts" / "0000000")
    first, _ = Given(made).segment(made.row(0), Image.new("RGB", (8, 8)))
    assert first.picture.size == (40, 30)
