"""Every node as it is dropped, in both renderers: what it shows is read, and its picture is kept to be looked at."""

import json
from pathlib import Path

import pytest
from likeness.tests import workflows
from likeness.tests.browser import sheets

KINDS = list(json.loads((workflows.FOLDER.parent / "node_list.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("modern", [False, True], ids=["classic", "modern"])
def test_every_node_is_seen_whole(request, page, modern):
    """Sheets of six are kept in pytest's cache folder."""
    folder = Path(request.config.cache.mkdir("screenshots"))
    sheets.prepare(page)
    for number, kinds in enumerate(sheets.sheets(KINDS), 1):
        sheets.drop(page, kinds, modern)
        assert sheets.overlaps(page) + sheets.faults(page) == [], kinds
        sheets.picture(page, folder / f"nodes_{'modern' if modern else 'classic'}_{number}.png")
        sheets.unfold(page)
        assert sheets.faults(page) == [], f"unfolded: {kinds}"
