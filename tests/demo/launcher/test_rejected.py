"""Sentences of a prompt that the host refuses."""

from likeness.demo.launcher.client import Rejected

OWN = "Attention Maps of a Word: expected a word of the prompt (a, cat), got 'dog'; change word."


def error(kind: str, message: str, details: str) -> dict:
    return {"type": kind, "message": message, "details": details}


def test_a_nodes_own_sentence_is_said_once():
    repeated = [
        error("custom_validation_failed", "Custom validation failed for node", f"{name} - {OWN}")
        for name in ("text", "word")
    ]
    other = error("value_not_in_list", "Value not in list", "sampler: 'x' not in ['euler']")
    said = Rejected({"node_errors": {"3": {"errors": repeated}, "4": {"errors": [other]}}})
    assert said.errors == {"3": [OWN], "4": ["Value not in list: sampler: 'x' not in ['euler']"]}
    assert str(said) == f"ComfyUI refused the workflow: {OWN}; Value not in list: sampler: 'x' not in ['euler']"


def test_a_refusal_without_nodes_has_the_hosts_reason():
    assert "no outputs" in str(Rejected({"error": {"message": "Prompt has no outputs"}}))
