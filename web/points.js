/** Shows the sheet of Where a Point Looks on its node, and takes a click on a picture as the point. */
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const MARGIN = 10; // of the front end around an element

/** The point of a click: the number of its picture and percents, or null outside of the pictures. */
function pointOf(sheet, x, y) {
  const column = Math.floor(x / sheet.width), line = y % (sheet.height + sheet.caption) - sheet.caption;
  const picture = sheet.numbers[column];
  if (!picture || line < 0) return null;
  const percent = (part, whole) => Math.min(100, Math.max(0, Math.round((1000 * part) / whole) / 10));
  return { picture, x: percent(x % sheet.width, sheet.width), y: percent(line, sheet.height) };
}

function set(node, values) {
  for (const [name, value] of Object.entries(values)) {
    const widget = node.widgets.find(widget => widget.name === name);
    if (!widget || node.inputs?.some(input => input.name === name && input.link != null)) continue;
    widget.value = value;
    widget.callback?.(value, app.canvas, node);
  }
  node.setDirtyCanvas?.(true, true);
}

/** The element with the sheet, made with the first one. */
function viewOf(node) {
  if (node.likenessSheet) return node.likenessSheet;
  const image = document.createElement("img");
  Object.assign(image.style, { width: "100%", objectFit: "contain", objectPosition: "left top", cursor: "crosshair" });
  image.draggable = false;
  const view = (node.likenessSheet = { image, sheet: null });
  const height = () => {
    if (!image.naturalWidth) return 60;
    return Math.round(((node.size[0] - 2 * MARGIN) * image.naturalHeight) / image.naturalWidth) + 2 * MARGIN;
  };
  const widget = node.addDOMWidget("likeness_sheet", "likeness_sheet", image, {
    serialize: false,
    hideOnZoom: false,
    margin: MARGIN,
    getMinHeight: height,
    getMaxHeight: height,
  });
  widget.serialize = false; // the workflow's list of values has no place for it
  image.addEventListener("load", () => node.expandToFitContent?.());
  image.addEventListener("click", event => {
    const box = image.getBoundingClientRect();
    const scale = Math.max(image.naturalWidth / box.width, image.naturalHeight / box.height);
    const [x, y] = [event.clientX - box.left, event.clientY - box.top].map(length => length * scale);
    const point = view.sheet && pointOf(view.sheet, x, y);
    if (point) set(node, point);
  });
  return view;
}

app.registerExtension({
  name: "Likeness.Points",
  nodeCreated(node) {
    if (node.comfyClass !== "LikenessCorrespondence") return;
    // The sheet takes the place of the host's own preview, in both renderers.
    node.hideOutputImages = true;
    node.onDrawBackground = () => {};
    const executed = node.onExecuted;
    node.onExecuted = function (output) {
      executed?.call(this, output);
      const [image] = output?.images ?? [], [sheet] = output?.likeness_sheet ?? [];
      if (!image || !sheet) return;
      const view = viewOf(this);
      view.sheet = sheet;
      view.image.src = api.apiURL(`/view?${new URLSearchParams(image)}`);
    };
  },
});
