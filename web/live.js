/** Draws on a node what its run is doing: the kind of each step, curves, and a small map; and says what it refused. */
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const ROW = 18;
const MAP = 72;
const MARGIN = 10; // of the front end around an element
const WIDTH = 336;
const COLORS = ["#4a4a4a", "#e27d9b", "#6fa8dc", "#7fd1ae", "#f5d76e", "#b39ddb"];
const CURVES = { appearance: "#e27d9b", layout: "#6fa8dc" };
const IDLE = ["plain", "not guided", "each picture by itself"];

/** The node of an id of the server, which names the subgraphs around it. */
function nodeOf(id) {
  let graph = app.graph?.rootGraph ?? app.graph;
  const path = String(id).split(":");
  for (const outer of path.slice(0, -1)) graph = graph?.getNodeById(Number(outer))?.subgraph;
  return graph?.getNodeById(Number(path.at(-1)));
}

/** All nodes of a graph and of the subgraphs in it. */
function nodesOf(graph = app.graph?.rootGraph ?? app.graph) {
  return [...(graph?.nodes ?? [])].flatMap(node => [node, ...(node.subgraph ? nodesOf(node.subgraph) : [])]);
}

/** The drawing of a node, made when the first of it arrives. */
function drawingOf(node) {
  if (node.likenessLive) return node.likenessLive;
  const canvas = document.createElement("canvas");
  Object.assign(canvas.style, { width: "100%", objectFit: "contain", objectPosition: "left top" });
  const live = { canvas, steps: [], step: 0, curves: {}, map: null, refused: "", height: ROW };
  const widget = node.addDOMWidget("likeness_live", "likeness_live", canvas, {
    serialize: false,
    hideOnZoom: false,
    margin: MARGIN,
    getMinHeight: () => live.height + 2 * MARGIN,
    getMaxHeight: () => live.height + 2 * MARGIN,
  });
  widget.serialize = false; // the workflow's list of values has no place for it
  return (node.likenessLive = live);
}

function drawSteps(context, live, top) {
  const count = live.steps.reduce((sum, [, number]) => sum + number, 0);
  const kinds = [...new Set(live.steps.map(([kind]) => kind).filter(kind => !IDLE.includes(kind)))];
  let done = 0, now = "";
  for (const [kind, number] of live.steps) {
    context.fillStyle = COLORS[kinds.indexOf(kind) + 1] ?? COLORS[0];
    context.fillRect((WIDTH * done) / count, top + 12, (WIDTH * number) / count - 1, 5);
    if (live.step > done && live.step <= done + number) now = kind;
    done += number;
  }
  context.fillStyle = "#fff";
  context.fillRect((WIDTH * live.step) / count - 1, top + 10, 2, 9);
  const parts = live.steps.map(([kind]) => kind).join(", ");
  context.fillText(live.step ? `step ${live.step} of ${count}: ${now}` : parts, 0, top + 8, WIDTH);
}

function drawCurves(context, live, top) {
  for (const [name, values] of Object.entries(live.curves)) {
    const low = Math.min(...values), high = Math.max(...values);
    context.strokeStyle = context.fillStyle = CURVES[name] ?? "#fff";
    context.beginPath();
    values.forEach((value, i) => {
      const x = 2 + ((WIDTH - MAP - 80) * i) / Math.max(1, values.length - 1);
      const y = top + 4 + (MAP - 8) * (high > low ? (high - value) / (high - low) : 0.5);
      if (i) context.lineTo(x, y);
      else context.moveTo(x, y);
    });
    context.stroke();
    const row = Object.keys(live.curves).indexOf(name);
    context.fillText(`${name} ${values.at(-1).toFixed(4)}`, WIDTH - MAP - 76, top + 12 + 14 * row, 72);
  }
}

function drawMap(context, map, top) {
  const { width, height } = map;
  const bytes = Uint8Array.from(atob(map.pixels), character => character.charCodeAt(0));
  const picture = new ImageData(width, height);
  bytes.forEach((value, i) => picture.data.set([value, value, value, 255], 4 * i));
  const small = new OffscreenCanvas(width, height);
  small.getContext("2d").putImageData(picture, 0, 0);
  const scale = (MAP - 12) / Math.max(width, height);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, WIDTH - width * scale, top, width * scale, height * scale);
  context.fillStyle = "#ccc";
  context.textAlign = "right";
  context.fillText(map.name, WIDTH, top + MAP - 2);
  context.textAlign = "left";
}

/** The lines of a text that is as wide as the drawing. */
function wrapped(context, text) {
  const lines = [""];
  for (const word of text.split(" "))
    if (context.measureText(`${lines.at(-1)} ${word}`).width < WIDTH) lines[lines.length - 1] += ` ${word}`;
    else lines.push(word);
  return lines;
}

function draw(node) {
  const live = drawingOf(node), context = live.canvas.getContext("2d");
  context.font = "11px sans-serif";
  const lines = live.refused ? wrapped(context, live.refused) : [];
  const pictured = live.map || Object.keys(live.curves).length;
  const height = lines.length * 14 + (live.steps.length ? ROW + 4 : 0) + (pictured ? MAP : 0);
  live.canvas.width = 2 * WIDTH;
  live.canvas.height = 2 * Math.max(1, height);
  context.setTransform(2, 0, 0, 2, 0, 0);
  context.font = "11px sans-serif";
  let top = 0;
  context.fillStyle = "#ff8a80";
  for (const line of lines) context.fillText(line.trim(), 0, (top += 14) - 4);
  if (live.steps.length) {
    drawSteps(context, live, top);
    top += ROW + 4;
  }
  if (Object.keys(live.curves).length) drawCurves(context, live, top);
  if (live.map) drawMap(context, live.map, top);
  if (live.height < height) {
    live.height = height;
    node.expandToFitContent?.();
  }
  node.setDirtyCanvas?.(true, true);
}

/** Shows a refusal on the node that its sentence names, and in a toast that begins with the sentence. */
function refuse(id, sentence) {
  const title = sentence.split(": ")[0];
  const named = nodesOf().filter(node => node.constructor.likeness
    && node.constructor.title?.split(" (")[0] === title);
  const own = nodeOf(id);
  const node = own?.constructor.likeness ? own : named.length === 1 ? named[0] : null;
  if (!node && !named.length) return;
  for (const shown of node ? [node] : named) {
    drawingOf(shown).refused = sentence;
    draw(shown);
  }
  app.extensionManager?.toast?.add({ severity: "error", summary: sentence, life: 20000 });
}

function forgetRefusals() {
  for (const node of nodesOf())
    if (node.likenessLive?.refused) {
      node.likenessLive.refused = "";
      draw(node);
    }
}

/** The sentences with which the server refused nodes before anything ran: [[node id, sentence]]. */
function refusals(errors) {
  return Object.entries(errors ?? {}).flatMap(([id, refused]) => {
    const ours = (refused?.errors ?? []).filter(one => one.type === "custom_validation_failed");
    const said = new Set(ours.map(one => (one.details ?? "").split(" - ").slice(1).join(" - ")).filter(Boolean));
    return [...said].map(sentence => [id, sentence]);
  });
}

app.registerExtension({
  name: "Likeness.Live",
  setup() {
    api.addEventListener("likeness.live", ({ detail: { node: id, kind, value } }) => {
      const node = nodeOf(id);
      if (!node) return;
      const live = drawingOf(node);
      if (kind === "steps") Object.assign(live, { step: 0, curves: {}, map: null });
      live[kind] = value;
      draw(node);
    });
    api.addEventListener("progress", ({ detail: { value, max } }) => {
      for (const node of nodesOf()) {
        const live = node.likenessLive;
        if (!live?.steps.length || live.steps.reduce((sum, [, number]) => sum + number, 0) !== max) continue;
        live.step = value;
        draw(node);
      }
    });
    api.addEventListener("execution_error", ({ detail }) =>
      refuse(detail.node_id, detail.exception_message.trim()));
    const queue = api.queuePrompt;
    api.queuePrompt = async function (...args) {
      forgetRefusals();
      try {
        const answer = await queue.apply(this, args);
        for (const one of refusals(answer?.node_errors)) refuse(...one);
        return answer;
      } catch (error) {
        for (const one of refusals(error?.response?.node_errors)) refuse(...one);
        throw error;
      }
    };
  },
});
