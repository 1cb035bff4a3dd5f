/** Colors of the pack's sockets and links, and the order of the nodes that are offered where a link is dropped. */
import { app } from "../../scripts/app.js";

const COLORS = {
  LIKENESS_SUBJECT: "#c5e86c",
  LIKENESS_PROMPT: "#e6c8a0",
  LIKENESS_REFERENCE: "#7fd1ae",
  LIKENESS_PALETTE: "#e27d9b",
  LIKENESS_TEMPLATE: "#6fa8dc",
  LIKENESS_TRAJECTORY: "#4fc3c7",
  LIKENESS_ADAPTIVE_MASK: "#9fc46b",
  LIKENESS_LOSSES: "#d98cd9",
  LIKENESS_METRICS: "#b0a4e3",
};

/** {type: nodes that take it, or give it, the most useful first}. */
const TAKERS = {
  LIKENESS_SUBJECT: ["LikenessSampler", "AppearancePalette", "LikenessReference", "JointImageSampler"],
  LIKENESS_PROMPT: ["LikenessSampler", "UREMDGuidance", "AppearancePalette", "LayoutTemplate"],
  LIKENESS_REFERENCE: ["MultiSourceAttnSwap", "JointImageSampler", "LikenessSaveReference"],
  LIKENESS_PALETTE: ["UREMDGuidance", "LikenessSavePalette"],
  LIKENESS_TEMPLATE: ["UREMDGuidance", "LikenessSaveTemplate"],
  LIKENESS_TRAJECTORY: ["MultiSourceAttnSwap", "LikenessSaveTrajectory"],
  LIKENESS_ADAPTIVE_MASK: ["MultiSourceAttnSwap"],
  LIKENESS_LOSSES: ["LikenessLossCurves"],
  LIKENESS_METRICS: ["LikenessScore", "LikenessSameSubject", "LikenessKeepBest"],
};
const GIVERS = {
  LIKENESS_SUBJECT: ["LikenessSubject"],
  LIKENESS_PROMPT: ["LikenessSubjectPrompt"],
  LIKENESS_REFERENCE: ["LikenessReference", "LikenessLoadReference"],
  LIKENESS_PALETTE: ["AppearancePalette", "LikenessLoadPalette"],
  LIKENESS_TEMPLATE: ["LayoutTemplate", "LikenessLoadTemplate"],
  LIKENESS_TRAJECTORY: ["StepBlendedSampler", "LikenessLoadTrajectory"],
  LIKENESS_ADAPTIVE_MASK: ["AdaptiveMask"],
  LIKENESS_LOSSES: ["UREMDGuidance"],
  LIKENESS_METRICS: ["LikenessMetrics"],
};

/** A color that stays when the front end's palette empties the entries of all types it does not know. */
function keep(colors, type) {
  let color = COLORS[type];
  Object.defineProperty(colors, type, {
    get: () => color,
    set: given => { color = given || COLORS[type]; },
    configurable: true,
    enumerable: true,
  });
}

function offer(table, wanted) {
  for (const [type, nodes] of Object.entries(wanted))
    table[type] = [...nodes, ...[table[type] ?? []].flat().filter(node => !nodes.includes(node))];
}

app.registerExtension({
  name: "Likeness.Colors",
  setup() {
    const style = document.createElement("style");
    const lines = Object.entries(COLORS).map(([type, color]) => `--color-datatype-${type}: ${color};`);
    style.textContent = `:root, body { ${lines.join(" ")} }`;
    document.head.append(style);
    for (const type of Object.keys(COLORS)) {
      keep(app.canvas.default_connection_color_byType, type);
      keep(LGraphCanvas.link_type_colors, type);
    }
    offer(LiteGraph.slot_types_default_out, TAKERS);
    offer(LiteGraph.slot_types_default_in, GIVERS);
  },
});
