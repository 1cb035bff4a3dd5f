"""Runs the commands of the tutorials on small files, as far as they need no server, and follows their links."""

import argparse
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from likeness.demo.launcher.files import ROOT
from likeness.demo.own import command as own
from likeness.demo.own.arguments import add_arguments
from likeness.demo.own.photos import photos_in
from likeness.lab.evaluate import command as evaluate
from likeness.lab.evaluate import plan as plans
from likeness.lab.evaluate import smoke
from likeness.lab.joint import command as train
from likeness.lab.joint.arguments import parse
from likeness.lab.joint.sources import find
from likeness.lab.s3 import command as s3
from likeness.tests import workflows
from PIL import Image

FOLDER = ROOT / "docs" / "tutorials"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}
TRANSLATED = sorted(path for path in FOLDER.parent.rglob("*/*.md") if path.parent.name in ("zh", "ja"))
COMMANDS = {name: re.findall(r"^ {4}python run\.py (.+)$", page, re.MULTILINE) for name, page in PAGES.items()}


def demo(words: list[str]) -> None:
    """Checks the files and chooses the methods, as the command does before it starts a server."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = parser.parse_args(words)
    assert options.checkpoint.is_file() and len(photos_in(options.photos)) == 3
    with_lora = set(own.graphs.NEEDS_LORA) <= set(own.chosen_methods(options))
    assert with_lora == bool(options.lora)
    assert own.in_braces(options.prompt, options.subject) == "a photo of {a dog} on the beach"


def training(words: list[str]) -> None:
    """Builds the sets; of a training, checks its options and finds its sets."""
    if words[0] == "sets":
        train.main([*words, "--size", "64", "--count", "2"])
        return
    options = parse(words, train.PARTS, None)
    assert options.part == "joint"
    for folder in options.sets or []:
        assert len(find(folder)) == 2


def evaluation(words: list[str]) -> None:
    """Plans; of the other steps, reads the options and the plan."""
    options = evaluate.parser().parse_args(words)
    if words[0] == "plan":
        evaluate.main(words)
    elif not options.smoke:
        out = options.out[0] if isinstance(options.out, list) else options.out
        assert {job.row for job in plans.read(out).jobs()} == {"vanilla", "lora", "layout-and-retouch"}


def sets_from_text(words: list[str]) -> None:
    assert s3.parser().parse_args(words).smoke


RUN = {"demo": demo, "train": training, "evaluate": evaluation, "s3": sets_from_text}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The files that the tutorials name, in the working folder."""
    monkeypatch.chdir(tmp_path)
    data = smoke.write_data(Path("my_subjects"))
    subjects = sorted(path for path in data.iterdir() if path.is_dir())
    Path("my_loras").mkdir()
    for subject in subjects:
        (Path("my_loras") / f"{subject.name}.safetensors").write_bytes(b"lora")
    Path("sd15.safetensors").write_bytes(b"weights")
    Path("my_dog.safetensors").write_bytes(b"lora")
    for folder in ("my_dog", "my_backgrounds"):
        Path(folder).mkdir()
        for number in range(3):
            Image.new("RGB", (96, 64), (0, 80 * number, 255)).save(Path(folder) / f"{number}.png")


@pytest.fixture
def cut_outs():
    """Replaces the photos of the subjects by cut-outs, of which sets are made."""

    def make() -> None:
        for picture in Path("my_subjects").glob("*/*.png"):
            alpha = np.zeros((64, 64), np.uint8)
            alpha[16:48, 16:48] = 255
            cut = Image.new("RGB", (64, 64), (255, 0, 0))
            cut.putalpha(Image.fromarray(alpha))
            cut.save(picture)
        (Path("my_subjects") / "prompts.txt").unlink()

    return make


@pytest.mark.parametrize("name", [name for name, commands in COMMANDS.items() if commands])
def test_commands_run_in_their_order(name, files, cut_outs, capsys):
    if any(command.startswith("train sets") for command in COMMANDS[name]):
        cut_outs()
    for command in COMMANDS[name]:
        first, *words = shlex.split(command)
        RUN[first](words)


def test_every_command_is_run():
    """A command that stands in another form than an indented line would be run by no test."""
    for name, page in PAGES.items():
        told = [line for line in page.splitlines() if line.strip().startswith("python ")]
        assert len(told) == len(COMMANDS[name]), name
    assert {command.split()[0] for commands in COMMANDS.values() for command in commands} == RUN.keys()


@pytest.mark.parametrize("name", PAGES)
def test_named_workflows_exist(name):
    page = PAGES[name]
    for title in re.findall(r"\*(\d+ [^*]+)\*", page):
        assert title in workflows.TEMPLATES, title
    for title, family in re.findall(r"\*(\d+ [^*(]+)\(SD 1\.5\)\* or \*\((\w+)\)\*", page):
        assert f"{title}({family})" in workflows.TEMPLATES
    for title in re.findall(r"workflow `([^`]+)` in `workflows/demo`", page):
        assert title in workflows.NAMES and workflows.ui_file(title).is_file()


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files(name):
    links = re.findall(r"\]\(([^)]+)\)", PAGES[name])
    assert links
    for link in links:
        assert (FOLDER / link.partition("#")[0]).exists(), link


@pytest.mark.parametrize("path", TRANSLATED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_translation_has_the_workflows_and_commands_of_the_english_page(path):
    page = path.read_text(encoding="utf-8")
    english = (path.parents[1] / path.name).read_text(encoding="utf-8")
    for part in (r"\*(\d+ [^*]+)\*", r"^ {4}(\S.*)$"):
        assert re.findall(part, page, re.MULTILINE) == re.findall(part, english, re.MULTILINE)
    for link in re.findall(r"\]\(([^)]+)\)", page):
        assert (path.parent / link.partition("#")[0]).exists(), link


def test_the_index_leads_to_every_translation():
    for language in {path.parent.name for path in TRANSLATED}:
        assert f"]({language}/README.md)" in PAGES["README"]
        index = (FOLDER / language / "README.md").read_text(encoding="utf-8")
        listed = {(FOLDER / language / link).resolve() for link in re.findall(r"\]\(([^)]+)\)", index)}
        made = {path for path in TRANSLATED if path.parent.name == language and path.name != "README.md"}
        assert listed >= made, made - listed


def test_the_index_lists_every_tutorial():
    listed = re.findall(r"\]\(([\w-]+)\.md\)", PAGES["README"])
    assert sorted(listed) == sorted(PAGES.keys() - {"README"})


def test_the_readme_leads_to_them():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "blob/main/docs/tutorials/README.md" in text
