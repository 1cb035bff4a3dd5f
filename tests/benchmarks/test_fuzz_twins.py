"""A run that ComfyUI alone fails at, too, is no fault of a graph; a run that fails with our nodes only is one."""

import copy

import pytest
from likeness.benchmarks.fuzz.graphs import Case
from likeness.benchmarks.fuzz.oracle import Oracle, plain
from likeness.benchmarks.fuzz.prompts import nodes_of
from likeness.benchmarks.fuzz.server import Outcome
from likeness.benchmarks.fuzz.twins import again, reworded, runs, twins

WIDGETS = {"seed": 0, "steps": 3, "cfg": 7.5, "scheduler": "normal", "denoise": 1.0}
FACTS = {"deviations": [1.0], "shape": [1, 4, 8, 8]}


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def numbered(*entries):
    return {str(i): entry for i, entry in enumerate(entries, 1)}


BLEND = {"model": ["1", 0], "personalized_model": ["2", 0], "latent": ["5", 0], "sampler": "euler", **WIDGETS}
BLENDED = numbered(
    node("LikenessDemoModel"),
    node("FreeU_V2", model=["1", 0]),
    node("LikenessSubjectPrompt", clip=["1", 1], text="a {fish}", token="sks", negative=""),
    node("CLIPTextEncode", clip=["1", 1], text=""),
    node("EmptyLatentImage"),
    node("StepBlendedSampler", **BLEND, positive=["4", 0], personalized_positive=["3", 2], negative=["3", 3]),
    node("FuzzResult", latent=["6", 0]),
)
SAMPLED = {"positive": ["3", 0], "negative": ["4", 0], "latent_image": ["5", 0], "sampler_name": "euler", **WIDGETS}
FORKED = {key: entry for key, entry in BLENDED.items() if key != "7"} | {
    "7": node("MultiSourceAttnSwap", model=["1", 0], layout=["6", 1], strength=1.0),
    "8": node("KSampler", model=["7", 0], **SAMPLED),
    "9": node("FuzzResult", latent=["8", 0]),
}
PATCH, LAYOUT = "MultiSourceAttnSwap", "StepBlendedSampler"
MISSING = "'NoneType' object has no attribute 'shape'"


def classes(prompt):
    return {entry["class_type"] for entry in prompt.values()} - {"FuzzAgain"}


class Host:
    """A server on which the prompts for which `failing` holds fail: without a picture, or with an error at a node."""

    schemas = dict[str, dict]()

    def __init__(self, failing, error=""):
        self.failing, self.error = failing, error
        self.fresh, self.ran = False, []

    def run(self, prompt):
        self.ran.append(prompt)
        fails, self.fresh = self.failing(prompt, self.fresh), False
        if fails and self.error:
            (result,) = nodes_of(prompt, "FuzzResult")
            at = prompt[result]["inputs"]["latent"][0]
            return Outcome(at=at, error=fails if isinstance(fails, str) else self.error)
        return Outcome({**FACTS, "hash": "" if fails else str(sorted(classes(prompt))), "finite": not fails})

    def forget(self):
        self.fresh = True


def judged(case, failing, error=""):
    fault = Oracle(Host(failing, error))(case).fault  # pyright: ignore[reportArgumentType]
    return fault and fault.kind


def test_twins_have_no_node_of_ours():
    assert runs(FORKED) == ["6", "8"]
    vanilla, personalized = twins(FORKED, "6")
    core = {"LikenessDemoModel", "CLIPTextEncode", "EmptyLatentImage", "KSampler", "FuzzResult"}
    assert classes(vanilla) == core
    assert classes(personalized) - classes(vanilla) == {"FreeU_V2"}
    sampler = personalized[max(personalized, key=int)]["inputs"]["latent"][0]
    inputs = personalized[sampler]["inputs"]
    assert {name: inputs[name] for name in WIDGETS} == WIDGETS and inputs["sampler_name"] == "euler"
    assert personalized[inputs["model"][0]]["class_type"] == "FreeU_V2"
    assert personalized[inputs["positive"][0]]["inputs"]["text"] == "a fish" and inputs["positive"][1] == 0
    (twin,) = twins(FORKED, "8")
    assert classes(twin) == core


def test_every_run_of_a_repeated_graph_samples_anew():
    made = again(FORKED, 7)
    assert [made[made["6"]["inputs"]["latent"][0]], made[made["8"]["inputs"]["latent_image"][0]]] == [
        node("FuzzAgain", latent=["5", 0], number=7)
    ] * 2
    assert FORKED["6"]["inputs"]["latent"] == ["5", 0]


def test_what_is_left_behind_shows_behind_the_cache_of_the_host():
    """The server answers an equal prompt from its cache, and ours changes what comes after it."""

    class Caching(Host):
        def __init__(self, dirty):
            super().__init__(lambda *_: False)
            self.dirty, self.cache, self.touched = dirty, {}, False

        def run(self, prompt):
            key = str(prompt)
            if key not in self.cache:
                self.touched |= self.dirty and PATCH in classes(prompt)
                made = super().run(prompt)
                self.cache[key] = Outcome(made.facts | {"hash": f"{made.hash} {self.touched}"})
            return self.cache[key]

        def forget(self):
            self.touched = False

    kinds = [Oracle(Caching(dirty))(Case(FORKED)).fault for dirty in (False, True)]  # pyright: ignore[reportArgumentType]
    assert [kind and kind.kind for kind in kinds] == [None, "something is left behind"]


@pytest.mark.parametrize(
    ("prompt", "failing", "expected"),
    [
        # The layout's run, and with it the run that follows the layout.
        (FORKED, lambda kinds: "FreeU_V2" in kinds, None),
        (FORKED, lambda kinds: LAYOUT in kinds, "no picture"),
        (FORKED, lambda kinds: PATCH in kinds, "no picture"),
        (FORKED, lambda kinds: PATCH in kinds or kinds >= {"FreeU_V2", "KSampler"}, "no picture"),
        (FORKED, lambda kinds: "KSampler" in kinds, None),
        (BLENDED, lambda kinds: "FreeU_V2" in kinds, None),
        (BLENDED, lambda kinds: LAYOUT in kinds, "no picture"),
    ],
)
def test_a_picture_that_is_missing_without_our_nodes_too(prompt, failing, expected):
    assert judged(Case(prompt), lambda prompt, _: failing(classes(prompt))) == expected


@pytest.mark.parametrize(
    ("failing", "expected"),
    [
        (lambda kinds: kinds & {LAYOUT, "KSampler"}, None),
        (lambda kinds: LAYOUT in kinds, "raw error"),
        (lambda kinds: LAYOUT in kinds or ("KSampler" in kinds and "another error"), "raw error"),
    ],
)
def test_an_error_that_core_raises_without_our_nodes_too(failing, expected):
    """A plain graph keeps our samplers, so it cannot tell."""
    assert classes(plain(BLENDED)) == classes(BLENDED)
    assert judged(Case(BLENDED), lambda prompt, _: failing(classes(prompt)), MISSING) == expected


def pair():
    """A graph, and another one that runs before it."""
    before = copy.deepcopy(FORKED)
    before["8"]["inputs"]["seed"] = 1
    return Case(FORKED, before)


@pytest.mark.parametrize(
    ("error", "failing", "expected"),
    [
        (MISSING, lambda prompt, fresh: fresh, None),
        ("", lambda prompt, fresh: fresh, None),
        (MISSING, lambda prompt, fresh: fresh and PATCH in classes(prompt), "not as on a fresh server"),
        ("", lambda prompt, fresh: fresh and PATCH in classes(prompt), "not as on a fresh server"),
        (MISSING, lambda prompt, fresh: fresh and (PATCH in classes(prompt) or "another error"), None),
    ],
)
def test_a_run_that_core_fails_at_first_without_our_nodes_too(error, failing, expected):
    assert judged(pair(), failing, error) == expected


@pytest.mark.parametrize(
    ("endless", "expected"),
    [
        (lambda kinds: "FreeU_V2" in kinds, None),
        (lambda kinds: LAYOUT in kinds, "no end"),
        (lambda kinds: PATCH in kinds, "no end"),
    ],
)
def test_a_run_without_end_in_core_alone_too(endless, expected):
    class Slow(Host):
        restarted = 0

        def run(self, prompt):
            if endless(classes(prompt)):
                raise TimeoutError("600 s")
            return super().run(prompt)

        def restart(self):
            self.restarted += 1

    server = Slow(lambda *_: False)
    verdict = Oracle(server)(Case(FORKED))  # pyright: ignore[reportArgumentType]
    assert (verdict.fault and verdict.fault.kind) == expected and verdict.ended == "failure" and server.restarted


@pytest.mark.parametrize(
    ("of_the_part", "expected"), [(MISSING, None), ("a third error", "raw error"), ("", "raw error")]
)
def test_an_error_that_core_raises_for_a_part_of_a_combined_prompt_too(of_the_part, expected):
    """The whole prompt fails in core at another part first."""
    combined = copy.deepcopy(FORKED)
    combined["10"] = node("CLIPTextEncode", clip=["1", 1], text="elsewhere")
    combined["11"] = node("ConditioningCombine", conditioning_1=["3", 0], conditioning_2=["10", 0])
    combined["8"]["inputs"]["positive"] = ["11", 0]

    def failing(prompt):
        if PATCH in classes(prompt):
            return MISSING
        texts = {entry["inputs"].get("text") for entry in prompt.values()}
        alone = "elsewhere" not in texts and "KSampler" in classes(prompt) and len(runs(prompt)) == 1
        return "another error" if "ConditioningCombine" in classes(prompt) else alone and of_the_part

    assert judged(Case(combined), lambda prompt, _: failing(prompt), MISSING) == expected


DECODED = numbered(
    node("LikenessDemoModel"),
    node("LikenessSubjectPrompt", clip=["1", 1], text="a {fish}", token="sks", negative=""),
    node("EmptyLatentImage"),
    node("KSampler", model=["1", 0], positive=["2", 0], negative=["2", 3], latent_image=["3", 0], **WIDGETS),
    node("VAEDecode", samples=["4", 0], vae=["1", 2]),
    node("LikenessCutOut", image=["5", 0]),
    node("VAEEncode", pixels=["6", 0], vae=["1", 2]),
    node("FuzzResult", latent=["7", 0]),
)
WRONG_CHANNELS = "expected input[1, 128, 4, 4] to have 16 channels"


@pytest.mark.parametrize(("alone", "expected"), [(True, None), (False, "raw error")])
@pytest.mark.parametrize("at", ["5", "7"])
def test_an_error_of_core_behind_all_runs(at, alone, expected):
    """What needs a picture of ours cannot be tried without it, so it stays a fault."""

    class Decoding(Host):
        def run(self, prompt):
            self.ran.append(prompt)
            decodes = "VAEDecode" in classes(prompt)
            if decodes and (alone or "LikenessSubjectPrompt" in classes(prompt)):
                return Outcome(at=at, kind=DECODED[at]["class_type"], error=WRONG_CHANNELS)
            return Outcome({**FACTS, "hash": "1", "finite": True})

    server = Decoding(lambda *_: False)
    fault = Oracle(server)(Case(DECODED)).fault  # pyright: ignore[reportArgumentType]
    assert (fault and fault.kind) == (expected if at == "5" else "raw error")
    assert at == "7" or any("VAEDecode" in classes(prompt) and prompt != DECODED for prompt in server.ran)


PROBED = FORKED | {
    "10": node("LikenessLayerProbe", model=["2", 0], positive=["3", 0], latent=["5", 0], seed=3, share=0.3),
    "11": node("LikenessJointGuider", model=["2", 0], positive=["3", 0], negative=["4", 0], cfg=4.0),
    "12": node("LikenessCorrespondence", guider=["11", 0], latent=["5", 0], seed=5, picture=2),
}


@pytest.mark.parametrize(("probe", "seed"), [("10", 3), ("12", 5)])
def test_a_node_that_calls_a_model_has_a_twin(probe, seed):
    (twin,) = twins(PROBED, probe)
    core = {"LikenessDemoModel", "FreeU_V2", "CLIPTextEncode", "EmptyLatentImage", "KSampler", "FuzzResult"}
    assert classes(twin) <= core
    (sampler,) = nodes_of(twin, "KSampler")
    inputs = twin[sampler]["inputs"]
    assert (inputs["seed"], inputs["steps"]) == (seed, 1)
    assert twin[inputs["model"][0]]["class_type"] == "FreeU_V2"


def test_other_words_and_guidance():
    made = reworded(FORKED)
    assert made["4"]["inputs"]["text"] == " a red house" and made["8"]["inputs"]["cfg"] == 8.5
    assert FORKED["4"]["inputs"]["text"] == ""


@pytest.mark.parametrize(("rows", "expected"), [(1, None), (2, None), (3, "raw error")])
def test_an_error_that_core_raises_for_as_many_rows_too(rows, expected):
    """A set has a row for each picture of its list. rows: the fewest that core fails at."""
    joint = {"model": ["2", 0], "positive": ["3", 0], "negative": ["4", 0], "latent": ["5", 0], "sampler": "euler"}
    joined = numbered(
        node("LikenessDemoModel"),
        node("FreeU_V2", model=["1", 0]),
        node("LikenessPromptList", clip=["1", 1], text="a fish\na dog", prefix=""),
        node("CLIPTextEncode", clip=["1", 1], text=""),
        node("EmptyLatentImage"),
        node("JointImageSampler", **joint, **WIDGETS),
        node("FuzzResult", latent=["6", 0]),
    )

    def failing(prompt):
        repeated = [prompt[key]["inputs"]["amount"] for key in nodes_of(prompt, "RepeatLatentBatch")]
        return "JointImageSampler" in classes(prompt) or max(repeated, default=1) >= rows

    assert judged(Case(joined), lambda prompt, _: failing(prompt), MISSING) == expected
