"""The table of the nodes: what each needs so that a newcomer finds it, sees it and tries it.

`pytest -rP tests/nodes/test_table.py` prints it.
"""

import json
import re

from likeness.docs.help_without import NO_PICTURE
from likeness.tests import workflows

ROOT = workflows.FOLDER.parent
CATEGORIES = {f"Likeness/{name}" for name in ("Sample", "Subject", "Guide", "Maps and masks", "Files", "Demo")}
MEASURED = json.loads((ROOT / "tests" / "browser" / "graphs" / "sizes.json").read_text(encoding="utf-8"))
USED = {name: {entry["class_type"] for entry in workflows.api(name).values()} for name in workflows.NAMES}


def row(schema) -> dict[str, str]:
    """Aliases, category, workflow, picture of the help page, and size in both renderers; an empty cell lacks one."""
    name = schema.node_id
    page = (ROOT / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    sizes = [size for signature, size in MEASURED.items() if signature.partition("(")[0] == name]
    return {
        "aliases": ", ".join(schema.search_aliases or ()),
        "category": schema.category if schema.category in CATEGORIES else "",
        "workflow": next((one for one, kinds in USED.items() if name in kinds), ""),
        "picture": next((one for one in pictures if (ROOT / "web" / "docs" / one).is_file()), ""),
        "size": "{:.0f} x {:.0f}, {:.0f} in Nodes 2.0".format(*sizes[0]) if sizes else "",
    }


def test_a_node_lacks_nothing(node):
    schema = node.GET_SCHEMA()
    found = row(schema)
    print(f"| {schema.display_name} | {' | '.join(found.values())} |")
    lacking = {column for column, cell in found.items() if not cell}
    assert lacking == ({"picture"} if schema.node_id in NO_PICTURE else set())
