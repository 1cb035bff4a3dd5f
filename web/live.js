/** Draws on a node what its run is doing: the kind of each step, curves, and a small map; and says what it refused. */
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { FOLDER, nodeOf, nodesOf } from "./graph.js";
import { say, titleOf } from "./texts.js";

const ROW = 18;
const MAP = 72;
const MAPS = 84; // from one map to the next
const MARGIN = 10; // of the front end around an element
const WIDTH = 336;
const COLORS = ["#4a4a4a", "#e27d9b", "#6fa8dc", "#7fd1ae", "#f5d76e", "#b39ddb"];
const CURVES = { appearance: "#e27d9b", layout: "#6fa8dc" };
const toasts = []; // of the refusals of the last prompt
const IDLE = ["plain", "not guided", "each picture by itself"];

/** The drawing of a node, made when the first of it arrives. */
function drawingOf(node) {
  if (node.likenessLive) return node.likenessLive;
  const canvas = document.createElement("canvas");
  Object.assign(canvas.style, { width: "100%", objectFit: "contain", objectPosition: "left top" });
  const live = { canvas, steps: [], step: 0, runner: null, curves: {}, maps: {}, refused: "", height: ROW };
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
  const parts = live.steps.map(([kind]) => say(kind)).join(", ");
  context.fillText(live.step ? say("step %1 of %2: %3", live.step, count, say(now)) : parts, 0, top + 9, WIDTH);
}

function drawCurves(context, live, right, top) {
  for (const [name, values] of Object.entries(live.curves)) {
    const low = Math.min(...values), high = Math.max(...values);
    context.strokeStyle = context.fillStyle = CURVES[name] ?? "#fff";
    context.beginPath();
    values.forEach((value, i) => {
      const x = 2 + ((right - 80) * i) / Math.max(1, values.length - 1);
      const y = top + 4 + (MAP - 8) * (high > low ? (high - value) / (high - low) : 0.5);
      if (i) context.lineTo(x, y);
      else context.moveTo(x, y);
    });
    context.stroke();
    const row = Object.keys(live.curves).indexOf(name);
    context.fillText(`${say(name)} ${values.at(-1).toFixed(4)}`, right - 76, top + 12 + 14 * row, 72);
  }
}

function drawMap(context, map, right, top) {
  const { width, height } = map;
  const bytes = Uint8Array.from(atob(map.pixels), character => character.charCodeAt(0));
  const picture = new ImageData(width, height);
  bytes.forEach((value, i) => picture.data.set([value, value, value, 255], 4 * i));
  const small = new OffscreenCanvas(width, height);
  small.getContext("2d").putImageData(picture, 0, 0);
  const scale = (MAP - 12) / Math.max(width, height);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, right - width * scale, top, width * scale, height * scale);
  context.fillStyle = "#ccc";
  context.textAlign = "right";
  context.fillText(say(map.name), right, top + MAP - 4, MAPS - 4);
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
  const maps = Object.values(live.maps), pictured = maps.length || Object.keys(live.curves).length;
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
  if (Object.keys(live.curves).length) drawCurves(context, live, WIDTH - MAPS * Math.max(1, maps.length), top);
  maps.forEach((map, i) => drawMap(context, map, WIDTH - MAPS * (maps.length - 1 - i), top));
  if (live.height < height) {
    live.height = height;
    node.expandToFitContent?.();
  }
  node.setDirtyCanvas?.(true, true);
}

/** Tells whether the pack itself has raised an error: the last of its frames is in the pack's folder. */
function isOurs(traceback) {
  const frame = [...(traceback ?? [])].reverse().find(line => line.includes('File "')) ?? "";
  return frame.split('"')[1]?.split(/[\\/]/).includes(FOLDER) ?? false;
}

/** The nodes that a node gets its inputs from, and itself. */
function upstream(node, found = new Set()) {
  if (!node || found.has(node)) return found;
  found.add(node);
  (node.inputs ?? []).forEach((_, i) => upstream(node.getInputNode?.(i), found));
  return found;
}

/** The nodes of an error of a run: the failed one, if it is ours, and those before it with the title of the sentence. */
function namedBy(failed, sentence) {
  const own = failed?.constructor.likeness ? [failed] : [], title = sentence.split(": ")[0];
  const named = nodesOf().filter(node => node.constructor.likeness && titleOf(node) === title);
  const before = upstream(failed), near = named.filter(node => before.has(node));
  return [...new Set([...own, ...(near.length || own.length ? near : named)])];
}

/** Shows a refusal on its nodes, and in a toast that begins with the sentence. */
function refuse(nodes, sentence) {
  if (!nodes.length) return;
  for (const node of nodes) {
    drawingOf(node).refused = sentence;
    draw(node);
  }
  const message = { severity: "error", summary: sentence, life: 20000 };
  app.extensionManager?.toast?.add(message);
  toasts.push(message);
}

function forgetRefusals() {
  for (const message of toasts.splice(0)) app.extensionManager?.toast?.remove?.(message);
  for (const node of nodesOf())
    if (node.likenessLive?.refused) {
      node.likenessLive.refused = "";
      draw(node);
    }
}

/** The sentence about the inputs that lack a link, from the server's errors; none if there are no such ones. */
function unlinked(node, errors) {
  const names = errors.filter(error => error.type === "required_input_missing")
    .map(error => error.extra_info?.input_name ?? error.details);
  const place = name => node.inputs?.findIndex(input => input.name === name) ?? -1;
  const typeOf = name => node.inputs?.[place(name)]?.type ?? "a link";
  names.sort((one, other) => place(one) - place(other)); // the server has no order
  const wanted = names.map(name => `${String(typeOf(name)).replaceAll(",", " or ")} for ${name}`).join(", ");
  return names.length ? [`${titleOf(node)}: expected ${wanted}, got no link; connect a node that gives it.`] : [];
}

/** The sentences with which the server refused nodes before anything ran: [[nodes, sentence]]. */
function refusals(errors) {
  return Object.entries(errors ?? {}).flatMap(([id, refused]) => {
    const node = nodeOf(id);
    if (!node?.constructor.likeness) return [];
    const ours = (refused?.errors ?? []).filter(one => one.type === "custom_validation_failed");
    const said = new Set(ours.map(one => (one.details ?? "").split(" - ").slice(1).join(" - ")).filter(Boolean));
    return [...said, ...unlinked(node, refused?.errors ?? [])].map(sentence => [[node], sentence]);
  });
}

app.registerExtension({
  name: "Likeness.Live",
  setup() {
    api.addEventListener("likeness.live", ({ detail: { node: id, kind, value, runner } }) => {
      const node = nodeOf(id);
      if (!node) return;
      const live = drawingOf(node);
      if (kind === "steps") Object.assign(live, { step: 0, runner, curves: {}, maps: {} });
      if (kind === "map") live.maps[value.name] = value;
      else live[kind] = value;
      draw(node);
    });
    api.addEventListener("progress", ({ detail: { value, max, node: runner } }) => {
      for (const node of nodesOf()) {
        const live = node.likenessLive, count = live?.steps.reduce((sum, [, number]) => sum + number, 0);
        // A node may sample more than once, such as a layout of its own first.
        if (!count || live.runner !== runner || count !== max) continue;
        live.step = value;
        draw(node);
      }
    });
    api.addEventListener("execution_error", ({ detail: { node_id: id, exception_message: said, traceback } }) => {
      if (isOurs(traceback)) refuse(namedBy(nodeOf(id), said.trim()), said.trim());
    });
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
