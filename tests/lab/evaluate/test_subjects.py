"""Subjects and prompts of a data folder, and everything that can be wrong with them."""

import json

import pytest
from likeness.demo.launcher.files import Problem
from likeness.lab.evaluate import protocol, subjects
from likeness.lab.evaluate.subjects import Photo, Subject

DOG = Subject("dog2", "dog", "sks", True, (Photo("a.jpg", "1"),))


def test_subjects_are_read_with_their_words(data):
    nemo, taxi = subjects.read(data)
    assert (nemo.name, nemo.noun, nemo.words, nemo.live, len(nemo.photos)) == ("nemo", "fish", "sks fish", False, 4)
    assert Subject.of(json.loads(json.dumps(taxi.as_dict()))) == taxi
    assert [subject.name for subject in subjects.read(data, ["taxi"])] == ["taxi"]


def test_dreambench_needs_no_file_of_words(data):
    (data / "nemo").rename(data / "dog6")
    (data / "dog6" / "subject.json").unlink()
    dog = subjects.read(data, ["dog6"])[0]
    assert (dog.noun, dog.token, dog.live) == ("dog", "sks", True)


def test_dreambench_has_thirty_subjects_and_twenty_five_prompts_of_each_kind():
    known = subjects.dreambench()
    assert len(known["classes"]) == 30 and len(known["live"]) == 9
    for lines in known["prompts"].values():
        assert len(lines) == 25 and all(line.count("{}") == 1 for line in lines)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("class", "a dog in the snow"),
        ("raw", "a sks dog in the snow"),
        ("braces", "a {} in the snow"),
        ("background", "in the snow"),
    ],
)
def test_text_rules(rule, expected):
    assert subjects.text(rule, "a {} in the snow", DOG) == expected


def test_a_prompt_without_surroundings_has_no_background():
    assert subjects.text("background", "a red {}", DOG) is None


def test_missing_folders_and_photos(data, tmp_path):
    (tmp_path / "empty" / "dog").mkdir(parents=True)
    for folder, only, sentence in (
        (tmp_path / "none", (), "is not there"),
        (tmp_path / "empty", (), "has no photos"),
        (data, ["koi"], "no folder with photos of koi in .*: use nemo, taxi"),
    ):
        with pytest.raises(Problem, match=sentence):
            subjects.read(folder, only)


def test_a_corrupt_photo_is_one_sentence(data):
    photo = data / "nemo" / "2.png"
    photo.write_bytes(photo.read_bytes()[:900])
    with pytest.raises(Problem, match=r"The picture .*2\.png cannot be read"):
        subjects.read(data)


def test_photos_of_one_name_are_one_sentence(data):
    (data / "nemo" / "2.jpg").write_bytes((data / "nemo" / "2.png").read_bytes())
    with pytest.raises(Problem, match="differ in their endings alone"):
        subjects.read(data)


def test_a_subject_without_words_is_one_sentence(data):
    (data / "nemo" / "subject.json").unlink()
    with pytest.raises(Problem, match="nemo has no class: write"):
        subjects.read(data)
    (data / "nemo" / "subject.json").write_text('{"noun": "fish"}')
    with pytest.raises(Problem, match="is not of the form"):
        subjects.read(data)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("a {} in the sea\na fish at night", "Prompt 2 of .*, 'a fish at night', has 0 places for the subject's class"),
        ("a {} and a {}", "has 2 places"),
        ("\n", "has at least 1 prompts, and .* has 0"),
    ],
)
def test_prompts_without_their_place_are_one_sentence(data, lines, sentence):
    (data / "prompts.txt").write_text(lines)
    with pytest.raises(Problem, match=sentence):
        subjects.prompts(protocol.load("own"), data)


def test_lists_that_we_do_not_ship_have_to_be_there_and_complete(data):
    with pytest.raises(Problem, match=r"vico reads its prompts from .*prompts_object.txt, which is missing"):
        subjects.prompts(protocol.load("vico"), data)
    for name in ("prompts_object.txt", "prompts_live.txt"):
        (data / name).write_text("a {} in the sea\n" * 30)
    with pytest.raises(Problem, match=r"vico has 31 prompts, and .* has 30"):
        subjects.prompts(protocol.load("vico"), data)
