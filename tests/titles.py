"""Titles of the nodes, as sentences name them."""

from likeness.nodes import node_classes
from likeness.nodes._validate import title_of

TITLES = {node.GET_SCHEMA().node_id: title_of(node) for node in node_classes()}
"""{node id: title}."""
