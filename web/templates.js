/** Lists the pack's workflows in the template browser by their numbers; the server lists files as its disk does. */
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { FOLDER } from "./graph.js";

app.registerExtension({
  name: "Likeness.Templates",
  init() {
    const list = api.getWorkflowTemplates;
    if (!list) return;
    api.getWorkflowTemplates = async function (...args) {
      const listed = await list.apply(this, args);
      listed[FOLDER]?.sort();
      return listed;
    };
  },
});
