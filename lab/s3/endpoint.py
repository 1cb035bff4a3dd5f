"""Endpoint that speaks OpenAI's chat completions, as hosted models and local servers (Ollama, vLLM, llama.cpp) do.

The key comes from an environment variable that is named explicitly, goes into the header of the request, and is
nowhere else: not in a file, and not in a sentence.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...demo.launcher.files import Problem

TIMEOUT = 120.0
WAITS = (1.0, 5.0, 20.0)
"""Seconds between the attempts."""
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
_MOST = 4 << 20
"""Bytes of an answer; more is no text."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, which would send the key to another server."""

    def redirect_request(self, *_arguments: Any) -> None:
        return None


_THERE = urllib.request.build_opener(_NoRedirect)
_HERE = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))


class _Refused(Exception):
    """Raised inside for an answer that is worth another attempt."""


@dataclass(frozen=True)
class Endpoint:
    """Chat model at an address. variable: environment variable with the key; empty for no key."""

    url: str
    model: str
    variable: str = ""
    temperature: float = 1.0
    timeout: float = TIMEOUT
    wait: Callable[[float], None] = time.sleep

    def answer(self, text: str, seed: int, picture: bytes | None = None) -> str:
        """Answer to a text, and to a PNG beside it. Raises Problem for an endpoint that gives none."""
        content: Any = text
        if picture is not None:
            shown = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
            content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": shown}}]
        wanted = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": self.temperature,
            "seed": seed,
        }
        said = ""
        for wait in (*WAITS, None):
            try:
                return self._hidden(_text(self._asked(wanted)))
            except _Refused as error:
                said = self._hidden(str(error))
            if wait is not None:
                self.wait(wait)
        raise Problem(
            f"The endpoint {self.url} gave no answer in {len(WAITS) + 1} attempts ({said}): look at it, and run the "
            "same command to go on."
        )

    def _asked(self, wanted: dict[str, Any]) -> Any:
        """JSON of the reply."""
        request = urllib.request.Request(
            _below(self.url, "chat/completions"),
            json.dumps(wanted).encode(),
            {"Content-Type": "application/json", "User-Agent": "ComfyUI-Likeness", **self._head()},
            method="POST",
        )
        try:
            with (_HERE if is_here(self.url) else _THERE).open(request, timeout=self.timeout) as reply:
                content = reply.read(_MOST + 1)
        except urllib.error.HTTPError as error:
            with error:
                raise self._of_status(error.code, error.read(_MOST)) from None
        except TimeoutError as error:
            raise _Refused(f"nothing within {self.timeout:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise _Refused(str(getattr(error, "reason", error)) or type(error).__name__) from error
        try:
            return json.loads(content)
        except ValueError as error:
            raise _Refused("its reply is no JSON") from error

    def _of_status(self, code: int, content: bytes) -> Exception:
        """Error of an HTTP status: for another attempt, or the sentence that ends the run."""
        said = self._hidden(_message(content))
        if code in _AGAIN:
            return _Refused(f"HTTP {code}{said}")
        if code in (401, 403):
            advice = f"check the key in {self.variable}" if self.variable else "name a variable with its key, --llm-key"
            return Problem(f"The endpoint {self.url} refused the key (HTTP {code}{said}): {advice}.")
        return Problem(
            f"The endpoint {self.url} refused the request (HTTP {code}{said}): check its address and --llm-model."
        )

    def _head(self) -> dict[str, str]:
        key = self._key()
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _key(self) -> str:
        return key_of(self.variable)

    def _hidden(self, text: str) -> str:
        """Text without the key, which some servers repeat."""
        key = self._key()
        return text.replace(key, "[key]") if key else text


def key_of(variable: str) -> str:
    """Key in an environment variable. Raises Problem for one that is missing or that no header can hold."""
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise Problem(f"The environment variable {variable} has no key: set it, or leave --llm-key out.")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise Problem(f"The environment variable {variable} has no key, but text with spaces or other signs: set it.")
    return key


def check_url(url: str) -> str:
    """Address of an endpoint. Raises Problem for another scheme, and for an address that contains a secret."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        raise Problem("Expected the address of an endpoint, got one that cannot be read: correct it.") from None
    secret = any(word in name.lower() for name in urllib.parse.parse_qs(parts.query) for word in ("key", "token"))
    if parts.username or parts.password or secret:
        raise Problem(
            "The address of the endpoint contains a key: set an environment variable, and name it with --llm-key."
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Problem(f"Expected the address of an endpoint, such as http://127.0.0.1:11434/v1, got {url}: correct it.")
    return url


def _below(url: str, name: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{name}").geturl()


def is_here(url: str) -> bool:
    """True for an address of this machine, which no proxy reaches."""
    name = urllib.parse.urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _text(reply: Any) -> str:
    """Text of a chat completion."""
    try:
        text = reply["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise _Refused("its reply is no chat completion") from error
    if not isinstance(text, str) or not text.strip():
        raise _Refused("its reply has no text")
    return text


def _message(content: bytes) -> str:
    """Message of an error's body, shortened, for brackets."""
    try:
        found = json.loads(content)
        said = found.get("error", found) if isinstance(found, dict) else found
        said = said.get("message", said) if isinstance(said, dict) else said
    except ValueError:
        return ""
    return f": {' '.join(str(said).split())[:200]}"
