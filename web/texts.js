/** Gives the pack's own texts in the language of the editor, from locales/; English until they have arrived. */
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

let locales = {};

api.fetchApi("/i18n").then(answer => answer.json()).then(found => (locales = found), () => {});

/** A text in the editor's language, with its values in place of %1, %2 and so on. */
export function say(english, ...values) {
  const language = app.ui.settings.getSettingValue("Comfy.Locale");
  const text = locales[language]?.likeness?.[english] ?? english;
  return text.replace(/%(\d)/g, (_, number) => values[number - 1]);
}

/** The title of a node's kind in English, as the server's sentences name it. */
export function titleOf(node) {
  const title = locales.en?.nodeDefs?.[node.comfyClass]?.display_name ?? node.constructor.title;
  return title?.split(" (")[0];
}
