"""Endpoints that answer, are slow, or answer nonsense; and keys, which are written nowhere."""

import json
import threading

import pytest
from likeness.demo.launcher.files import Problem
from likeness.lab.s3 import command, prompts
from likeness.lab.s3.endpoint import Endpoint, check_url
from likeness.lab.s3.plan import Plan

KEY = "sk-secret0123456789"
ANSWER = {"choices": [{"message": {"content": "a red mug with stripes\na blue mug with dots"}}]}


def made(url, **options) -> Endpoint:
    return Endpoint(url, "small", wait=lambda _: None, **options)


def test_an_answer_with_a_picture_and_a_key(endpoint, monkeypatch):
    serving, reply = endpoint
    seen = []

    def answer(handler, body):
        seen.append((handler.path, handler.headers, json.loads(body)))
        reply(handler, json.dumps(ANSWER).encode())

    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    with serving(answer) as url:
        assert made(f"{url}/?version=1", variable="MY_KEY").answer("hello", 7, b"png").startswith("a red mug")
        made(url).answer("hello", 7)
    (path, headers, wanted), (_, without, plain) = seen
    assert path == "/v1/chat/completions?version=1" and headers["Authorization"] == f"Bearer {KEY}"
    assert wanted["model"] == "small" and wanted["seed"] == 7 and plain["messages"][0]["content"] == "hello"
    assert wanted["messages"][0]["content"][1]["image_url"]["url"] == "data:image/png;base64,cG5n"
    assert "Authorization" not in without


@pytest.mark.parametrize(
    ("replies", "attempts", "sentence"),
    [
        ([(200, b"<html>")] * 9, 4, r"gave no answer in 4 attempts \(its reply is no JSON\): look at it, and run"),
        ([(200, b'{"choices": []}')] * 9, 4, r"\(its reply is no chat completion\)"),
        ([(200, b"[]")] * 9, 4, r"\(its reply is no chat completion\)"),
        ([(200, b'{"choices": [{"message": {"content": " "}}]}')] * 9, 4, r"\(its reply has no text\)"),
        ([(503, b"busy"), (429, b'{"error": "slow down"}'), (200, json.dumps(ANSWER).encode())], 3, ""),
        ([(500, b"")] * 9, 4, r"\(HTTP 500\)"),
        ([(404, b'{"error": {"message": "no model small"}}')], 1, r"\(HTTP 404: no model small\): check its address"),
        ([(401, b"{}")], 1, r"refused the key \(HTTP 401: {}\): name a variable with its key, --llm-key"),
    ],
)
def test_nonsense_is_asked_again_and_then_one_sentence(endpoint, replies, attempts, sentence):
    serving, reply = endpoint
    count = []

    def answer(handler, _body):
        status, content = replies[len(count)]
        count.append(status)
        reply(handler, content, status)

    with serving(answer) as url:
        if sentence:
            with pytest.raises(Problem, match=sentence):
                made(url).answer("hello", 0)
        else:
            assert made(url).answer("hello", 0)
    assert len(count) == attempts


def test_a_silent_endpoint_and_none_at_all_are_one_sentence(endpoint):
    serving, _ = endpoint
    done = threading.Event()
    with serving(lambda *_: done.wait(5)) as url:
        with pytest.raises(Problem, match=r"4 attempts \((nothing within 0.05 s|timed out)\): look at it, and run the"):
            made(url, timeout=0.05).answer("hello", 0)
        done.set()
    with pytest.raises(Problem, match=r"127\.0\.0\.1:9/v1 gave no answer in 4 attempts \(.*refused.*\)"):
        made("http://127.0.0.1:9/v1").answer("hello", 0)


def test_a_redirect_does_not_take_the_key_along(endpoint, monkeypatch):
    serving, reply = endpoint
    other = []
    monkeypatch.setenv("MY_KEY", KEY)
    with serving(lambda handler, _: other.append(handler.headers)) as elsewhere:  # noqa: SIM117
        with serving(lambda handler, _: reply(handler, b"", 307, Location=elsewhere)) as url:
            with pytest.raises(Problem, match="HTTP 307"):
                made(url, variable="MY_KEY").answer("hello", 0)
    assert not other


def test_the_key_is_in_no_file_and_no_sentence(endpoint, monkeypatch, tmp_path, capsys):
    """A server that repeats the key in its answer and in its errors."""
    serving, reply = endpoint
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setattr("likeness.lab.s3.endpoint.WAITS", (0.0, 0.0, 0.0))
    status = [200]

    def answer(handler, body):
        key = handler.headers["Authorization"].removeprefix("Bearer ")
        thing = "mug" if "mug" in body.decode() else "cup"
        text = "\n".join(f"a {thing} with the text {key} {n}" for n in range(3))
        content = {"choices": [{"message": {"content": text}}], "error": {"message": f"bad key {key}"}}
        reply(handler, json.dumps(content).encode(), status[0])

    (tmp_path / "objects.txt").write_text("mug\ncup\n")
    (tmp_path / "backgrounds").mkdir()
    with serving(answer) as url:
        arguments = f"plan --objects {tmp_path}/objects.txt --sets 4 --out {tmp_path}/out --prompts {url}"
        arguments += " --llm-model m --llm-key MY_KEY --prompts-per-object 3"
        command.main([*arguments.split(), "--inpaint", str(tmp_path / "backgrounds"), "--restyle", "0"])
        plan = Plan(tmp_path / "out", json.loads((tmp_path / "out" / "plan.json").read_text()))
        writer = Endpoint(url, "m", plan.stage("prompts")["key"], wait=lambda _: None)
        found = prompts.fill(plan, ["mug"], writer)
        assert found.texts("mug", "object")[0] == "a mug with the text [key] 0"
        status[0] = 403
        with pytest.raises(Problem, match=r"refused the key \(HTTP 403: bad key \[key\]\): check the key in MY_KEY"):
            prompts.fill(plan, ["mug", "cup"], writer)
        status[0] = 503
        with pytest.raises(Problem, match=r"HTTP 503: bad key \[key\]"):
            prompts.fill(plan, ["mug", "cup"], writer)
        with pytest.raises(SystemExit):
            command.main(["check", str(tmp_path / "out"), "--models", str(tmp_path)])
    assert prompts.bank(plan).texts("mug", "scene")  # what was answered stays
    said = capsys.readouterr()
    assert KEY not in said.out + said.err and "HTTP 503: bad key [key]" in said.out
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 4 and not [path for path in files if KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [("", "has no key: set it"), ("two words", "has no key, but text with spaces"), ("a\nb", "but text with spaces")],
)
def test_a_key_that_no_header_can_hold_is_not_repeated(monkeypatch, value, sentence):
    monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(Problem, match=sentence) as raised:
        made("http://127.0.0.1:9/v1", variable="MY_KEY").answer("hello", 0)
    assert not value or value not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://me:secret@host/v1",
        "https://host/v1?api_key=secret",
        "ftp://host",
        "ftp://me:secret@host",
        "http://secret@[::1",
    ],
)
def test_addresses_with_secrets_are_refused_and_not_repeated(url):
    with pytest.raises(Problem) as raised:
        check_url(url)
    assert "secret" not in str(raised.value)
