"""Variables of a private Python, and the cache folder of each platform."""

from __future__ import annotations

from pathlib import Path

import pytest
from likeness.demo.launcher import install, pythons


def test_a_private_python_sees_nothing_of_the_users(monkeypatch: pytest.MonkeyPatch):
    for name in pythons.LEFT_OUT:
        monkeypatch.setenv(name, "x")
    assert not set(pythons.LEFT_OUT) & set(pythons.clean_variables())


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "comfyui-likeness"),
        ("linux", None, ".cache/comfyui-likeness"),
        ("darwin", None, "Library/Caches/comfyui-likeness"),
        ("win32", "LOCALAPPDATA", "comfyui-likeness"),
        ("win32", None, "AppData/Local/comfyui-likeness"),
    ],
)
def test_the_cache_is_where_the_platform_has_caches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, variable, expected: str
):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(install, "WINDOWS", platform == "win32")
    monkeypatch.setattr(install.sys, "platform", platform)
    monkeypatch.setattr(install.Path, "home", lambda: tmp_path)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path))
    assert install.cache_folder() == tmp_path / expected
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "else"))
    assert install.cache_folder() == tmp_path / "else"
