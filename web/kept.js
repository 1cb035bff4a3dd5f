/** Says how much RAM the pack's features take, on the nodes that keep them, and releases it. */
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { nodesOf } from "./graph.js";
import { say } from "./texts.js";

const KEEPERS = ["AppearancePalette", "LikenessReference", "LikenessSampler", "LikenessSubject", "MultiSourceAttnSwap"];
const PATH = "/likeness/kept";

let kept = 0;

const asked = async (method = "GET") => (await api.fetchApi(PATH, { method })).json();
const size = () => (kept < 2 ** 30 ? `${Math.ceil(kept / 2 ** 20)} MiB` : `${(kept / 2 ** 30).toFixed(1)} GiB`);
const said = () => say("Release %1 of RAM kept by Likeness", size());

function relabel() {
  for (const node of nodesOf()) {
    if (!KEEPERS.includes(node.comfyClass)) continue;
    let button = node.widgets?.find(widget => widget.name === "likeness_kept");
    if (!button && kept) {
      button = node.addWidget("button", "likeness_kept", null, release, { serialize: false });
      button.serialize = false; // the workflow's list of values has no place for it
    }
    if (!button) continue;
    button.label = said();
    button.hidden = !kept;
    button.options.hidden = !kept;
    node.expandToFitContent?.();
    node.setDirtyCanvas?.(true, true);
  }
}

async function refresh() {
  kept = (await asked()).bytes;
  relabel();
}

async function release() {
  const answer = await asked("DELETE");
  kept = answer.bytes;
  relabel();
  const summary = say("Likeness: features are in use; release them when the run has ended.");
  if (answer.busy) app.extensionManager?.toast?.add({ severity: "warn", summary, life: 5000 });
}

app.registerExtension({
  name: "Likeness.Kept",
  commands: [{ id: "Likeness.Release", label: "Likeness: release the RAM of kept features", function: release }],
  setup() {
    for (const ending of ["execution_success", "execution_error", "execution_interrupted"])
      api.addEventListener(ending, refresh);
  },
});
