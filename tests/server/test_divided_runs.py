"""A retouch whose sampling or batch is divided gives what the single run gives."""

from safetensors.torch import load_file

SPLIT = 3
WINDOWS = {
    "context_length": 2,
    "context_overlap": 1,
    "context_schedule": "standard_static",
    "context_stride": 1,
    "closed_loop": False,
    "fuse_method": "pyramid",
    "dim": 0,
    "freenoise": False,
    "cond_retain_index_list": "",
    "latent_retain_index_list": "",
    "split_conds_to_windows": False,
    "causal_window_fix": True,
}


def latents(client, host, prompt: dict, samplers: tuple[str, ...]) -> dict:
    """The LATENTs of samplers, [pictures, channels, height, width], by their nodes."""
    for node in samplers:
        inputs = {"samples": [node, 0], "filename_prefix": f"likeness/divided_{node}"}
        prompt[f"save_{node}"] = {"class_type": "SaveLatent", "inputs": inputs}
    outputs = client.run(prompt).outputs
    found = {}
    for node in samplers:
        (record,) = outputs[f"save_{node}"]["latents"]
        found[node] = load_file(host.base / "output" / record["subfolder"] / record["filename"])["latent_tensor"]
    return found


def test_parts_of_sampling_and_of_the_batch_are_the_single_run(client, host, workflow):
    prompt = workflow("layout_and_retouch")
    for node in ("10", "19", "20", "21", "22", "23", "24"):
        del prompt[node]
    prompt["7"]["inputs"].update(batch_size=3, width=64, height=64)
    prompt["16"]["inputs"]["attention"] = "recorded"
    single = prompt["18"]["inputs"]
    for node in ("8", "18"):
        prompt[node]["inputs"]["steps"] = 4
    part = {name: single[name] for name in single if name not in ("seed", "denoise")} | {"noise_seed": single["seed"]}
    first = part | {"add_noise": "enable", "start_at_step": 0, "end_at_step": SPLIT}
    second = part | {"add_noise": "disable", "start_at_step": SPLIT, "end_at_step": 4, "latent_image": ["70", 0]}
    prompt["70"] = {"class_type": "KSamplerAdvanced", "inputs": first | {"return_with_leftover_noise": "enable"}}
    prompt["71"] = {"class_type": "KSamplerAdvanced", "inputs": second | {"return_with_leftover_noise": "disable"}}
    prompt["80"] = {"class_type": "ContextWindowsManual", "inputs": WINDOWS | {"model": ["17", 0]}}
    prompt["81"] = {"class_type": "KSampler", "inputs": single | {"model": ["80", 0]}}
    prompt["90"] = {"class_type": "KSampler", "inputs": single | {"model": ["2", 0]}}
    found = latents(client, host, prompt, ("18", "71", "81", "90"))
    whole = found.pop("18")
    distance = {node: float((made - whole).norm() / whole.norm()) for node, made in found.items()}
    assert distance["71"] < 1e-5 and distance["81"] < 1e-5 < 0.05 < distance["90"], distance
