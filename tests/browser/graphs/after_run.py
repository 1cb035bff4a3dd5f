"""What a run shows on the nodes of a graph, shown without a run: pictures, sentences, drawings, the button for RAM."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PICTURE, SHEET, SENTENCE = "picture", "sheet", "sentence"
STEPS, CURVES, MAP, KEPT = "steps", "curves", "map", "kept"
HEIGHTS = {PICTURE: 240, SHEET: 380, SENTENCE: 64, KEPT: 28}
"""Pixels that each takes; a drawing of the run takes ROW for its steps, DRAWING for all else, and MARGIN around it."""
ROW, DRAWING, MARGIN = 22, 72, 24
SHOWN: Mapping[str, tuple[str, ...]] = {
    "AdaptiveMask": (PICTURE, MAP),
    "AppearancePalette": (PICTURE, KEPT),
    "JointImageSampler": (STEPS,),
    "LayoutTemplate": (PICTURE,),
    "LikenessAttentionMaps": (PICTURE, STEPS, MAP),
    "LikenessCorrespondence": (SHEET,),
    "LikenessJointGuider": (STEPS,),
    "LikenessKeepBest": (PICTURE,),
    "LikenessLayerProbe": (PICTURE, SENTENCE),
    "LikenessLossCurves": (PICTURE,),
    "LikenessReference": (KEPT,),
    "LikenessSampler": (SENTENCE, STEPS, CURVES, MAP, KEPT),
    "LikenessSegment": (PICTURE,),
    "LikenessStepBlendedGuider": (STEPS,),
    "LikenessSubject": (SENTENCE, KEPT),
    "MaskPreview": (PICTURE,),
    "MultiSourceAttnSwap": (SENTENCE, STEPS, KEPT),
    "PreviewImage": (PICTURE,),
    "SaveImage": (PICTURE,),
    "StepBlendedSampler": (STEPS,),
    "UREMDGuidance": (SENTENCE, STEPS, CURVES, MAP),
}
"""{kind of node: what a run shows on it}."""


def height(kind: str) -> int:
    """Pixels that a run adds to a node."""
    parts = SHOWN.get(kind, ())
    drawn = ROW * (STEPS in parts) + DRAWING * bool({CURVES, MAP} & {*parts})
    return sum(HEIGHTS.get(part, 0) for part in parts) + (drawn + MARGIN if drawn else 0)


SAID = "The model's attention to its words finds the subject; with Segment Anything's area, it is cut more closely."
_PICTURE = Path(__file__).resolve().parents[3] / "demo" / "weights" / "subjects" / "nemo.png"
_SHOW = """async ([shown, said]) => {
  const tell = (kind, detail) => app.api.dispatchEvent(new CustomEvent(kind, { detail }));
  const live = (node, kind, value) => tell("likeness.live", { node: node.id, kind, value, runner: "0" });
  const images = [{ filename: "after_run.png", subfolder: "", type: "temp" }];
  const show = {
    picture: node => tell("executed", { node: node.id, display_node: node.id, output: { images } }),
    sentence: node => tell("progress_text", { nodeId: String(node.id), text: said }),
    steps: node => live(node, "steps", [["plain", 2], ["guided: appearance", 3], ["guided: layout", 5]]),
    curves: node => live(node, "curves", { appearance: [0.3, 0.2, 0.15, 0.14], layout: [0.2, 0.18, 0.13, 0.12] }),
    map: node => live(node, "map", { name: "generated subject", width: 2, height: 2, pixels: btoa("@@~~") }),
    sheet: node => tell("executed", { node: node.id, display_node: node.id, output: {
      images, likeness_sheet: [{ height: 128, width: 128, caption: 16, numbers: [1, 2, 3, 4] }] } }),
    kept: () => {},
  };
  for (const node of app.graph.nodes) for (const kind of shown[node.type] ?? []) show[kind](node);
  const fetched = app.api.fetchApi;
  const kept = async () => new Response(JSON.stringify({ bytes: 300 * 2 ** 20 }));
  app.api.fetchApi = (route, ...rest) => (route === "/likeness/kept" ? kept() : fetched.call(app.api, route, ...rest));
  tell("execution_success", { prompt_id: "" });
  for (let i = 0; i < 30; i++) await new Promise(requestAnimationFrame);
  app.api.fetchApi = fetched;
}"""


def show(page) -> None:
    """Shows on every node of the graph what a run would show."""
    address = "**/view?*filename=after_run.png*"
    page.route(address, lambda route: route.fulfill(path=_PICTURE))
    page.evaluate(_SHOW, [SHOWN, SAID])
    page.unroute(address)
