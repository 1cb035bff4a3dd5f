/** Folds advanced widgets, shows widgets that exclude each other one at a time, and gives new nodes a readable size. */
import { app } from "../../scripts/app.js";

const WIDTH = 360; // room for a label beside its value
const SIZES = {
  AdaptiveMask: [WIDTH, 360],
  AppearancePalette: [WIDTH, 560],
  LayoutTemplate: [WIDTH, 620],
  LikenessAttentionMaps: [WIDTH, 400],
  LikenessCorrespondence: [480, 420],
  LikenessLoadJointCheckpoint: [420, 0],
  LikenessLoadReference: [400, 0],
  LikenessLoadTemplate: [440, 0],
  LikenessLossCurves: [420, 320],
  LikenessSegment: [WIDTH, 440],
  LikenessSubjectPrompt: [400, 440],
};

const value = (node, name) => node.widgets?.find(widget => widget.name === name)?.value;
const linked = (node, name) => node.inputs?.some(input => input.name === name && input.link != null) ?? false;
const without = name => node => !linked(node, name);
const is = (name, ...wanted) => node => wanted.includes(value(node, name));
const both = (one, other) => node => one(node) && other(node);

const TYPED = { text: without("subject_prompt"), word: without("subject_prompt") };
const SWITCH = { switch_step: is("switch_by", "step"), switch_percent: is("switch_by", "percent") };
const SET = { image_cfg: is("guidance", "text_first", "image_first") };
const follows = is("attention", "per_step");

/** {node id: {widget: whether it can have an effect}}. */
const SHOWN = {
  AdaptiveMask: {
    text: both(follows, without("subject_prompt")),
    word: both(follows, without("subject_prompt")),
    blocks: follows,
    wording: node => linked(node, "subject_prompt"),
  },
  AppearancePalette: {
    ...TYPED,
    threshold: without("subject"),
    map_blocks: without("subject"),
    size: without("subject"),
  },
  JointImageSampler: SET,
  LayoutTemplate: { ...TYPED, boxes: without("mask") },
  LikenessAttentionMaps: { ...TYPED, wording: node => linked(node, "subject_prompt") },
  LikenessJointGuider: SET,
  LikenessReference: { inversion_steps: is("source", "inverted") },
  LikenessStepBlendedGuider: SWITCH,
  MultiSourceAttnSwap: {
    lambda_2: is("lambdas_by", "step"),
    lambda_3: is("lambdas_by", "step"),
    lambda_2_percent: is("lambdas_by", "percent"),
    lambda_3_percent: is("lambdas_by", "percent"),
  },
  StepBlendedSampler: SWITCH,
  UREMDGuidance: TYPED,
};

const unfolded = node => node.showAdvanced || app.ui.settings.getSettingValue("Comfy.Node.AlwaysShowAdvancedWidgets");

/** Hides what has no effect or is folded. A linked widget stays, so that its link has an end. */
function refresh(node) {
  const rules = SHOWN[node.comfyClass] ?? {};
  let changed = false;
  for (const widget of node.widgets ?? []) {
    const idle = !linked(node, widget.name) && rules[widget.name]?.(node) === false;
    const folded = !!widget.options?.advanced && !linked(node, widget.name) && !unfolded(node);
    // The classic renderer reads the widget and the Vue renderer its options, where it folds by itself.
    changed ||= widget.hidden !== (idle || folded) || !!widget.options?.hidden !== idle;
    widget.hidden = idle || folded;
    widget.options ??= {};
    widget.options.hidden = idle;
  }
  if (!changed) return;
  node.widgets.splice(0, node.widgets.length, ...node.widgets); // the Vue renderer watches the list, not the options
  node.expandToFitContent?.();
  node.setDirtyCanvas?.(true, true);
}

/** Removes the English labels of a definition from sockets, where they would hide the translated names. */
function relabel(node) {
  for (const input of node.inputs ?? []) {
    const { name, label, localized_name: translated } = input;
    const english = node.constructor.likenessLabels[name] ?? name.split(".").at(-1);
    if (label === english && translated && ![name, english].includes(translated)) delete input.label;
  }
}

/** Calls `then` after a method of an object, whatever the method is. */
function after(object, method, then) {
  const before = object[method];
  object[method] = function (...args) {
    const made = before?.apply(this, args);
    then();
    return made;
  };
}

app.registerExtension({
  name: "Likeness.Widgets",
  async beforeRegisterNodeDef(type, definition) {
    if (definition.category?.split("/")[0] !== "Likeness") return;
    type.likeness = true;
    const inputs = Object.entries({ ...definition.input?.required, ...definition.input?.optional });
    type.likenessLabels = Object.fromEntries(inputs.map(([name, [, options]]) => [name, options?.display_name]));
  },
  nodeCreated(node) {
    if (!node.constructor.likeness) return;
    for (const widget of node.widgets ?? []) {
      widget.advanced = !!widget.options?.advanced;
      // The classic renderer shows no label of a text, only what stands in it while it is empty.
      if (widget.element?.placeholder === widget.name) widget.element.placeholder = widget.label ?? widget.name;
      if (widget.type === "combo") after(widget, "callback", () => refresh(node));
    }
    after(node, "onConnectionsChange", () => refresh(node));
    after(node, "onConfigure", () => (refresh(node), relabel(node)));
    after(node, "addInput", () => queueMicrotask(() => relabel(node))); // a growing input labels its sockets after this
    after(node, "toggleAdvanced", () => refresh(node));
    if (node.widgets?.some(widget => widget.advanced)) {
      // Only the classic renderer has buttons in titles; the other one has its own below the widgets.
      node.addTitleButton?.({ name: "likeness_advanced", text: "\u2699", yOffset: 0, xOffset: -10, fontSize: 16 });
      const clicked = node.onTitleButtonClick;
      node.onTitleButtonClick = function (button, canvas) {
        if (button.name === "likeness_advanced") this.toggleAdvanced();
        else clicked?.call(this, button, canvas);
      };
    }
    refresh(node);
    relabel(node);
    const [width, height] = SIZES[node.comfyClass] ?? [WIDTH, 0];
    const [least, needed] = node.computeSize(); // 20 pixels less than a long title needs
    node.setSize([Math.max(width, least + 20), Math.max(height, needed)]);
  },
});
