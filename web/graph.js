/** Finds nodes of the workflow, also inside subgraphs, and the folder that the pack is installed in. */
import { app } from "../../scripts/app.js";

/** The name of the pack's folder, by which the server knows it. */
export const FOLDER = decodeURIComponent(new URL(import.meta.url).pathname.split("/").at(-2));

/** The node of an id of the server, which names the subgraphs around it. */
export function nodeOf(id) {
  let graph = app.graph?.rootGraph ?? app.graph;
  const path = String(id).split(":");
  for (const outer of path.slice(0, -1)) graph = graph?.getNodeById(Number(outer))?.subgraph;
  return graph?.getNodeById(Number(path.at(-1)));
}

/** All nodes of a graph and of the subgraphs in it. */
export function nodesOf(graph = app.graph?.rootGraph ?? app.graph) {
  return [...(graph?.nodes ?? [])].flatMap(node => [node, ...(node.subgraph ? nodesOf(node.subgraph) : [])]);
}
