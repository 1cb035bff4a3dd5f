"""Writes workflows in UI format by exporting them from the real front end: those of the demo from their twins in
workflows/api, and the declared ones for real files together with their twins, and the blueprints.

COMFYUI_PATH=... python tests/browser/export_workflows.py [NAME ...]
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
API = ROOT / "workflows" / "api"
NOTES = {
    "demo_model": (
        "Draws four pictures with the bundled demo model. Nothing is downloaded.\n\nIts world: ball, cube, star, "
        "heart, house, fish, mushroom, car; eight colors; plain, striped, dotted, checked; on the beach, in the "
        "snow, on the grass, in the desert, at night, in the city, in the sea, in a room."
    ),
    "demo_subject": (
        "Draws a personalized subject with its LoRA alone. Compare the pictures with the references: the subject is "
        "right, and so is its old place and pose, whatever the prompt says. The other workflows cure that."
    ),
    "demo_transformer": (
        "The papers' methods on a diffusion transformer, with one seed: alone; with a reference's keys and values "
        "appended, nothing personalized; and step-blended, where the LoRA finishes what the vanilla model "
        "began (Layout-and-Retouch).\n\n**subject**: nemo and taxi have a LoRA for it. **weight** of the reference: "
        "how much it is looked at; **strength** of *Reference Retouch* 0, **switch_step** 25: the transformer "
        "alone.\n\nWith your own: *Load Diffusion Model*, *Load CLIP* and *Load VAE* in place of *Demo Transformer*."
    ),
    "subject_prompt": (
        "One prompt for both models: the subject stands in braces, and **token** holds the words that the LoRA "
        "learned. Compare *Vanilla* and *Personalized*: one text, worded for each."
    ),
    "subject": (
        "Photographs of one subject in one node: single ones, batches, any size. *Appearance Palette* takes all of "
        "them at once, and the vanilla model is pulled towards them; next to it the same noise alone.\n\nWith your "
        "own: *Load Image* on **image0**, **image1** and so on, a checkpoint, **map_blocks** and **blocks** set to "
        "paper, **threshold** to 0.3."
    ),
    "likeness_sampler": (
        "One photograph, no training: the sampler pulls the vanilla model's subject towards its features, and its "
        "place towards the vanilla model's own picture (Pick-and-Draw).\n\n**likeness** 0 is the vanilla model alone. "
        "The report on the sampler says what it chose, and why. *Subject* has **threshold** and **map_blocks** of the "
        "demo model; your own takes 0.3 and paper."
    ),
    "likeness_sampler_retouch": (
        "A LoRA and one photograph: the vanilla model decides the layout, the photograph gives the look "
        "(Layout-and-Retouch). The LoRA makes **personalized_model**; the model before it goes to "
        "**model**.\n\n**target_prompt** whole keeps the place on the demo model; the paper's neutral prompt, the "
        "default, loses it there. **likeness** 0 is the LoRA alone, 1 the paper's strength, which breaks some pictures "
        "here."
    ),
    "likeness_sampler_joint": (
        "A joint checkpoint and three photographs, no training: both pictures and the photographs are one set "
        "(JeDi).\n\n**likeness** 0 is the joint model without photographs. With a checkpoint of your own: *Load Joint "
        "Checkpoint*."
    ),
    "two_subjects": (
        "Two subjects in one picture, one after the other (JeDi). 1: the first subject with its references. 2: room "
        "beside it, and a noise mask over that room. 3: the second subject, inpainted with its own references; what "
        "the mask leaves out stays as it is.\n\nInside one picture: *Load Image (as Mask)* or the mask editor in "
        "place of *Pad Image for Outpainting*."
    ),
    "first_picture": (
        "The same personalized model, prompt and seed twice: alone, and step-blended (Layout-and-Retouch, stage 1), "
        "where the vanilla model draws the layout first.\n\nChange the subject and the scene in *Demo Subject*, and "
        "**switch_step** in the sampler: 0 is the personalized model alone, more steps follow the prompt better."
    ),
    "step_blended_sampler": (
        "Layout-and-Retouch, stage 1: the vanilla model makes the first **switch_step** steps, with the prompt "
        "without the placeholder; the personalized model makes the rest.\n\nWith your own models: replace *Demo "
        "Model* by *Load Checkpoint* and *Demo Subject* by *Load LoRA*, write both prompts, and set the size of the "
        "latent."
    ),
    "step_blended_guider": (
        "The two-model sampler as a guider, for any sampler, noise and sigmas. *Recorded Layout* gives every "
        "noise level and latent that the models saw."
    ),
    "layout_and_retouch": (
        "Layout-and-Retouch, complete. 1: the layout, by the vanilla model first and the personalized one then. 2: "
        "one reference picture, of which only the subject is borrowed. 3: where the subject is in the layout. 4: the "
        "same noise again, with the layout's early steps, the reference's look, and the layout's background under the "
        "mask.\n\nThe LoRA has a **strength** of 0.6: at 1 it overshoots, and leaves the reference nothing to add. "
        "The reference's keys and values are appended to the picture's own; the paper puts them in their place "
        "(**attention**: replace), which suits this LoRA less. The reference's **weight** says how much it is looked "
        "at.\n\nCompare the four pictures of *Layout*, *Retouched* and *The Personalized Model Alone*. **lambda_2**: "
        "when the reference takes over; **lambda_3**: when the background is fixed; **strength**: how much of all of "
        "it."
    ),
    "layout_and_retouch_paper": (
        "Layout-and-Retouch with the paper's settings: 50 DDIM steps, the first 5 of the vanilla model, guidance 7.5, "
        "keys and values replaced, and the neutral prompt for the retouch. Before **lambda_2**, the picture borrows "
        "the queries, keys and values of the network that drew the layout: **early_swap** qkv_both with "
        "**vanilla_model** and **vanilla_conditioning**.\n\nThe demo model loses the place under the neutral prompt. "
        "*layout_and_retouch* has the settings that suit it."
    ),
    "jedi": (
        "JeDi, complete. A joint model, trained on sets of pictures, draws three scenes together with three pictures "
        "of the subject as known members of the set: all show one subject, and nothing is "
        "personalized.\n\n**subject** in *The Subject*; one scene per line in *One Scene per Picture*. **guidance** "
        "text_first with a higher **image_cfg** is more of the subject, image_first with a lower one less; **length** "
        "in *Three Reference Pictures*: how many of them.\n\nWith a checkpoint of your own: `run.py train joint` "
        "makes one that *Load Joint Checkpoint* reads; or any checkpoint, with **blocks** decoder, as in "
        "*joint_image_sampler*."
    ),
    "joint_image_sampler": (
        "One subject in two scenes: both pictures are denoised together, with two pictures of the subject as known "
        "members of the set (JeDi).\n\nThe demo model was not trained for sets: this is JeDi's training-free "
        "relative. With a joint checkpoint, from *Load Joint Checkpoint*, set **blocks** to all.\n\n**strength**: 0 "
        "is every picture by itself. **guidance** and **image_cfg**: whether text or references count more."
    ),
    "joint_guider": (
        "The joint image sampler as a guider, for any sampler, noise and sigmas. The latent has as many pictures as "
        "there are prompts."
    ),
    "correspondence": (
        "Two scenes with two given pictures of the subject, and where one point of them looks: a row of heatmaps per "
        "size of the feature maps, with a ring around the place that it looks at most (JeDi, figure 5).\n\nClick on "
        "a picture in *Where a Point Looks* to choose another point, then run again: only that node runs. **group_by** "
        "part shows encoder, middle and decoder.\n\nFor a retouch: *CFGGuider* with the model from *Reference "
        "Retouch* on **guider**, and the retouched LATENT."
    ),
    "load_joint_checkpoint": (
        "JeDi with a joint checkpoint of nine input channels, which `run.py train joint` writes. Put it into "
        "models/checkpoints as joint.safetensors first. The demo model only lends its pictures here."
    ),
    "multi_source_attn_swap": (
        "Retouches any picture: here one of the vanilla model, which has never seen the subject. Its way back to "
        "noise is the layout, and the personalized model goes the same way with the reference's look.\n\nWith a "
        "picture of your own: *Load Image* in place of the vanilla picture, and its caption in place of the prompt "
        "without the placeholder. **lambda_2**: more steps keep more of it."
    ),
    "adaptive_mask": (
        "The mask that a retouch blends under: where the word acts in the layout image, and where Segment Anything "
        "finds the subject, strong inside and fading to its edge. Put sam_vit_b_01ec64.pth into models/sams first, or "
        "disconnect **subject_mask**: then the word's map is all there is.\n\n**attention** per_step, with a text "
        "encoder, makes it follow the picture while it is retouched, as in the paper."
    ),
    "reference": (
        "Two references of one subject: the first as it is, the second with twice the weight, under a mask of where "
        "the subject's word acts in it, and noised in place of inverted, which costs no model call.\n\nThere is no "
        "layout: the references act from step **lambda_2** on, on whatever the personalized model draws."
    ),
    "store_reference": (
        "Makes a reference's features ahead of time, for this model and these steps, and keeps them below "
        "output/likeness."
    ),
    "use_stored_reference": (
        "Uses a saved reference: no picture, no inversion. Run *store_reference* first; steps and scheduler must be "
        "the same."
    ),
    "store_layout": (
        "Draws four layouts and keeps them below output/likeness_trajectories, with everything that a retouch needs "
        "of them."
    ),
    "use_stored_layout": (
        "Retouches saved layouts with a reference: no layout is drawn again. Run *store_layout* first; size, batch, "
        "steps and scheduler must be the same."
    ),
    "pick_and_draw": (
        "Pick-and-Draw, complete. 1: the vanilla model draws the prompt; where the subject acts in it is the layout. "
        "2: the subject's features in one reference picture. 3: the personalized model, whose subject is pulled "
        "towards these features and its attention towards that layout.\n\nCompare the four pictures of *Guided* and "
        "*The Personalized Model Alone*; *Loss Curves* draws both losses. **appearance_weight**, **layout_weight**: 0 "
        "turns one off. **step_size**: smaller where colors break, larger where nothing changes. **appearance_end**: "
        "earlier where shapes break, **layout_end**: later where the layout does not follow.\n\nWith your own models: "
        "*Load Checkpoint*, *Load LoRA* and *Load Image* instead of the demo's nodes, your own texts and words, and "
        "*Appearance Palette* with **blocks** and **map_blocks** set to paper."
    ),
    "appearance_palette": (
        "One palette from two pictures: each part of the generated subject may find its like in either of them. The "
        "preview shows the picture, where the subject was found, and its features as colors.\n\nWith your own "
        "pictures: write a caption that names the subject and little else, and look at the mask. If much background "
        "is in it, raise **threshold**, set **map_blocks** to paper or other blocks, or connect a mask of your own."
    ),
    "layout_template": (
        "The subject goes where a box says: no vanilla run, no reference. Compare *In the Box* with *Without "
        "Guidance*.\n\n**boxes**: left, top, right and bottom as fractions of the picture, one box per line; empty, "
        "the vanilla model draws the layout. Where the subject does not follow, raise **layout_weight** or "
        "**layout_end**; where the picture breaks, lower them. With your own models: **layout_blocks** all."
    ),
    "uremd_guidance": (
        "Guidance without a LoRA: the vanilla model, pulled towards a palette from one picture, and next to it the "
        "same noise alone. The node shows its loss while it runs; *Loss Curves* draws it.\n\n**appearance_start**, "
        "**appearance_end**: when it is pulled. **step_size**: how far. **direction**: with ref_to_gen all of the "
        "palette has to appear, pose included. With your own models: **blocks** and **map_blocks** paper in "
        "*Appearance Palette*."
    ),
    "save_palette": (
        "Keeps a palette below output/likeness_palettes. **after** makes the file wait for the guided run, which "
        "computes the features."
    ),
    "use_saved_palette": (
        "Guides by a saved palette: no picture is encoded, looked at or inverted. Run *save_palette* first. With "
        "other steps, another scheduler or another model the features are computed anew, from the picture in the file."
    ),
    "save_template": ("Draws a layout with the vanilla model and keeps it below output/likeness_templates."),
    "use_saved_template": (
        "Follows a saved layout: the vanilla model draws nothing. Run *save_template* first; the batch must be the "
        "same, and the same seed fits best."
    ),
    "same_subject": (
        "Four pictures of one subject become a set, as a joint model is trained on (JeDi, S3). The subject's attention "
        "map cuts it out of each; *Same Subject* keeps the pictures that show one subject; *Assemble Set* stacks them "
        "with their caption.\n\nWith your own: *SAM3 Detect* with **individual_masks** in place of the map, "
        "clip-vit-base-patch32 in *Likeness Metrics*, and a **threshold** that `run.py s3 calibrate` measures."
    ),
    "keep_best": (
        "Draws eight pictures, measures how like the photographs each is, and keeps the two best.\n\nThe demo's judge "
        "measures here, and its numbers compare with no paper. With your own: **identity** dino-vits16 in *Likeness "
        "Metrics*, your photographs on **references**."
    ),
    "segment": (
        "The subject's mask by Segment Anything, found by where its word acts. Put sam_vit_b_01ec64.pth into "
        "models/sams first.\n\n**scene** names the place in the photograph: the place then has words of its own, and "
        "the subject's word keeps to the subject."
    ),
    "attention_maps": (
        "Shows where a word of the prompt acts: the cross-attention of its tokens, as a mask and as a heatmap."
    ),
    "layer_probe": (
        "Tests every block of the model on two pictures: which attend by position, and which by content. Connect "
        "**CONTENT** to **blocks** of *Reference Retouch* or *Joint Image Sampler*, so that they keep the subject and "
        "leave its place free.\n\nWith your own: *Load Checkpoint* or *Load Diffusion Model* in place of *Demo Model*, "
        "and pictures with clear subjects."
    ),
}


def main(names: list[str]) -> None:
    comfyui = Path(os.environ["COMFYUI_PATH"])
    runpy.run_path(str(ROOT / "demo" / "launcher" / "launch.py"))["alias_pack"](comfyui)
    from likeness.demo.launcher.host import Host
    from likeness.tests.browser import frontend
    from likeness.tests.browser.graphs import blueprints, frontend_blueprint, frontend_graph, shipped, sizes

    graphs = {graph.name: graph for graph in shipped.shipped()}
    closed = {blueprint.graph.name: blueprint for blueprint in blueprints.blueprints()}
    known = sizes.measured()
    with Host(comfyui) as host:
        frontend.stock(host.client)
        object_info = host.client.object_info()
        with frontend.browser() as chromium:
            page = frontend.open_front_end(chromium, host.client.address)
            page.evaluate("() => { app.canvas.pause_rendering = true; }")
            plans: dict[Path, frontend_graph.Plan] = {}
            for name in names or [*NOTES, *graphs]:
                if name in graphs:
                    plans[ROOT / "workflows" / f"{name}.json"] = frontend_graph.declared(graphs[name], object_info)
                    _write(API / f"{name}.json", graphs[name].api(object_info))
                elif name in NOTES:
                    twin = json.loads((API / f"{name}.json").read_text(encoding="utf-8"))
                    plan = frontend_graph.Plan(name, NOTES[name], twin)
                    plans[ROOT / "workflows" / "demo" / f"{name}.json"] = plan
            for path, graph in zip(plans, frontend_graph.export(page, list(plans.values()), known), strict=True):
                _write(path, graph)
            for name in set(names or closed) & set(closed):
                plan = frontend_graph.declared(closed[name].graph, object_info)
                graph = frontend_blueprint.export(page, closed[name], plan, known)
                _write(ROOT / "subgraphs" / f"{name}.json", graph)
    _write(sizes.FILE, dict(sorted(known.items())))


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
