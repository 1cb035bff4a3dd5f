"""The editor's search for nodes: what a newcomer's words find first."""

import pytest

_FOUND = """words => {
  const { $pinia } = document.querySelector("#vue-app").__vue_app__.config.globalProperties;
  const { nodeSearchService } = [...$pinia._s.values()].find(store => store.nodeSearchService);
  return nodeSearchService.searchNode(words, [], { limit: 64 }).map(
    node => [node.name, node.display_name, node.category.split("/")[0] === "Likeness"]);
}"""
FIRST = {
    "consistency": "LikenessSampler",
    "consistent character": "JointImageSampler",
    "character sheet": "LikenessSampler",
    "dreambooth": "LikenessSubjectPrompt",
    "identity": "LikenessSubject",
    "ipadapter": "LikenessSubject",
    "mask from prompt": "LikenessSegment",
    "my photos": "LikenessSubject",
    "same character": "LikenessSubject",
    "subject": "LikenessSubject",
}


@pytest.mark.parametrize("words", FIRST)
def test_a_word_lists_our_node_first(page, words):
    assert page.evaluate(_FOUND, words)[0][0] == FIRST[words]


@pytest.mark.parametrize("words", ["face", "style", "lora", "photo"])
def test_a_word_of_other_nodes_titles_lists_ours_too(page, words):
    """The search sorts by title and id, then by the host's own counts of use, which have none for ours."""
    found = page.evaluate(_FOUND, words)
    ours = [name for name, _, own in found if own]
    assert len(ours) > 2 and not found[0][2]
    assert {"LikenessSampler", "LikenessSubject"} & {*ours}
