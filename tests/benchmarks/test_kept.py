"""What counts as the source of a kept picture."""

import pytest
from likeness.benchmarks import kept


def paths(module):
    root = kept._ROOT
    return {path.relative_to(root).as_posix() for path in kept.sources_of(root / "benchmarks" / f"{module}.py")}


def test_all_that_draws_counts_and_nothing_else():
    drawn = paths("pick_and_draw_comparison")
    wanted = ("kernels/uremd.py", "patching/host/run.py", "patching/features/references.py", "demo/world/scene.py")
    assert set(wanted) <= drawn
    assert not any(path.startswith(("demo/judge/", "patching/jedi/guider", "nodes/")) for path in drawn)
    assert "patching/jedi/guider.py" in paths("jedi_comparison")


@pytest.mark.parametrize(
    ("text", "same"),
    [('"""Other."""\n\n\ndef f(x):\n    # why\n    return x + 1\n', True), ("def f(x):\n    return x + 2\n", False)],
)
def test_words_do_not_count(tmp_path, text, same):
    first, second = tmp_path / "a.py", tmp_path / "b.py"
    first.write_text('"""Adds."""\ndef f(x):\n    """Adds one."""\n    return x + 1\n', encoding="utf-8")
    second.write_text(text, encoding="utf-8")
    assert (kept.code_of(first) == kept.code_of(second)) == same
