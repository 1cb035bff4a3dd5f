"""Sentences for the user: which node shows them, and for how long."""

import logging
import sys

import pytest
from likeness.patching.host.notices import Notices, notices_of
from likeness.tests.patching.editor import executing, open_editor

NODE, SAMPLER = "7", "9"


@pytest.fixture
def editor(monkeypatch):
    return open_editor(monkeypatch)


@pytest.fixture
def told(editor):
    with executing(NODE):
        return notices_of("Some Node", NODE)


def test_all_sentences_are_shown_with_the_live_line_below(editor, told):
    with executing(SAMPLER):
        told.tell("one thing is wrong.")
        told.show("step 1")
        told.inform("it takes 2 GiB.")
        told.show("step 2")
        told.tell("one thing is wrong.")
    assert editor.shown == {NODE: "Warning: One thing is wrong.\nIt takes 2 GiB.\nstep 2"}


def test_the_log_names_the_node(told, caplog):
    with caplog.at_level(logging.INFO):
        told.tell("one thing is wrong.")
        told.inform("it takes 2 GiB.")
        Notices("Some Node").tell("no id.")
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "Some Node, node 7: one thing is wrong."),
        ("INFO", "Some Node, node 7: it takes 2 GiB."),
        ("WARNING", "Some Node: no id."),
    ]


def test_a_run_of_another_prompt_removes_what_the_run_before_has_told(editor, told):
    with executing(NODE):
        told.tell("of the node.")
    for prompt, sentence in (("prompt", "first run."), ("prompt", "second sampler."), ("later", "second run.")):
        with executing(SAMPLER, prompt):
            told.start()
            told.tell(sentence)
    assert [text for _, text in editor.sent[-2:]] == [
        "Warning: Of the node.",
        "Warning: Of the node.\nWarning: Second run.",
    ]
    assert "First run.\nWarning: Second sampler." in editor.sent[2][1]


def test_an_execution_removes_what_the_one_before_has_told(editor, told):
    with executing(NODE):
        told.tell("one thing is wrong.")
        assert told.take() == ("Warning: One thing is wrong.",)
        assert told.take() == ()
    with executing(NODE, "later"):
        notices_of("Some Node", NODE)
    assert editor.shown == {NODE: ""}


def test_a_node_with_nothing_to_say_sends_nothing(editor):
    for prompt in ("a", "b"):
        with executing("8", prompt):
            notices_of("Some Node", "8").start()
    assert editor.sent == []


def test_executions_for_a_list_share_their_sentences(editor):
    for index in range(2):
        with executing(NODE, "list", index):
            notices_of("Some Node", NODE).tell(f"entry {index}.")
    assert editor.shown == {NODE: "Warning: Entry 0.\nWarning: Entry 1."}


@pytest.mark.parametrize("server", [None, object()], ids=["no server", "a server that shows no text"])
def test_without_a_server_only_the_log_is_written(monkeypatch, server, caplog):
    monkeypatch.setitem(sys.modules, "server", server)
    notices_of("Some Node", NODE).tell("one thing is wrong.")
    assert "one thing is wrong" in caplog.text
