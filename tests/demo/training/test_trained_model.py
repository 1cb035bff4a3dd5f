"""Committed weights: their pictures and attention maps on a few unseen scenes."""

import numpy as np
import torch
from likeness.benchmarks import generate, tinyland
from likeness.benchmarks.grid import Grid, renders
from likeness.benchmarks.jedi_comparison import JointSets, Recipe
from likeness.demo import judge
from likeness.demo.world.captions import prompt
from likeness.demo.world.scene import render
from likeness.demo.world.subjects import TUNING
from likeness.patching.features.word_maps import word_maps
from likeness.patching.host.window import Window
from likeness.patching.tinyland import model as model_files


def test_the_heat_of_the_class_word_lies_on_the_subject():
    model, clip, vae = model_files.load(model_files.WEIGHTS)
    scenes = tinyland.unseen_scenes(6)
    ratios = []
    for scene in scenes:
        latent = {"samples": vae.encode(torch.from_numpy(renders([scene])).float() / 255)}
        text = prompt(scene.subject.name, scene.place)
        maps = word_maps(
            model,
            clip,
            latent,
            text=text,
            word=scene.subject.name,
            blocks="output3",
            group_by="together",
            window=Window(0.2, 0.8),
            levels=4,
            seed=0,
            vae=vae,
        )
        inside = torch.from_numpy(render(scene).mask > 127)
        ratios.append(float(maps.heatmaps[0][inside].mean() / maps.heatmaps[0][~inside].mean()))
    assert np.median(ratios) > 2.5 and min(ratios) > 1.5, ratios


def test_places_and_colors_are_drawn_as_asked():
    model, clip, vae = model_files.load(model_files.WEIGHTS)
    eye, settings = judge.Judge.load(), generate.Settings(steps=12)
    figures = tinyland.caption_accuracies(model, clip, vae, eye, settings, 16)
    assert (
        figures["place_accuracy"] >= 0.9 and figures["colour_accuracy"] >= 0.75 and figures["class_accuracy"] >= 0.6
    ), figures


def test_references_of_the_joint_model_bring_their_subject():
    sets, eye = JointSets(model_files.WEIGHTS, generate.Settings(steps=12), Recipe()), judge.Judge.load()
    grid = Grid(TUNING[:2], prompts=1, seeds=2)
    with_references, without = (
        grid.score(sets.sample(name, grid), eye) for name in ("joint_3", "training_free_uncoupled")
    )
    assert with_references["identity"].mean() > without["identity"].mean() + 0.1
    assert with_references["prompt"].mean() >= 0.75
