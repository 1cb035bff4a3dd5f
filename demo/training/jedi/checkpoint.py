"""SD1.x checkpoints that a joint model starts from, and the checkpoints of joint models, which the host's own loaders
read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import comfy.model_base
import comfy.model_detection
import comfy.ops
import comfy.sd
import comfy.supported_models
import comfy.utils
import safetensors
import torch
from comfy.latent_formats import LatentFormat
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.supported_models_base import BASE
from safetensors.torch import save_file

from ....kernels.jedi import CHANNELS
from ....patching.jedi.format import IN_CHANNELS, JointFormat
from ...launcher.files import Problem, commit, replacing
from .network import FIRST_LAYER, ORDER, widened

PREFIX = "model.diffusion_model."


@dataclass(frozen=True, eq=False)
class Source:
    """A checkpoint with a U-Net of SD1.x, CLIP and VAE. config: the host's, of what it has found in the file."""

    path: Path
    config: BASE
    velocity: bool
    """Whether the U-Net predicts the velocity, and not the noise."""
    sigmas: torch.Tensor
    """[steps] of the schedule it was trained on, in the variance-exploding convention."""

    @property
    def latent_format(self) -> LatentFormat:
        return cast(
            LatentFormat, self.config.latent_format
        )  # an object from the host's constructor on, a class only in what it declares

    def tensors(self) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """All of the file's, and its metadata."""
        with safetensors.safe_open(self.path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118 - not a mapping

    def encoders(self):
        """CLIP and VAE, as the host loads them."""
        _, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(self.path), output_model=False)
        return clip, vae

    def joint_unet(self, device: torch.device) -> UNetModel:
        """The U-Net in float32 with nine input channels, which answers as the checkpoint's does, whatever is given."""
        config = {**self.config.unet_config, "in_channels": IN_CHANNELS, "dtype": torch.float32}
        unet = UNetModel(**config, device=device, operations=comfy.ops.disable_weight_init)
        state = {k.removeprefix(PREFIX): v for k, v in self.tensors()[0].items() if k.startswith(PREFIX)}
        missing = unet.load_state_dict({**state, FIRST_LAYER: widened(state[FIRST_LAYER])}, strict=False).missing_keys
        if missing:
            raise Problem(
                f"expected a whole U-Net in {self.path}, got one without {missing[0]}: give --checkpoint another file."
            )
        return unet.requires_grad_(True)


def open_source(path: Path) -> Source:
    """Raises Problem for what is no checkpoint of SD1.x with CLIP and VAE."""
    another = "give --checkpoint another file"
    if not path.is_file():
        raise Problem(f"expected an SD1.x checkpoint at {path}, got no such file: correct --checkpoint.")
    try:
        with safetensors.safe_open(path, framework="pt"):
            pass
    except safetensors.SafetensorError as error:
        raise Problem(f"expected a safetensors file at {path}, got something else ({error}): {another}.") from error
    state = comfy.utils.load_torch_file(str(path))
    config = (
        comfy.model_detection.model_config_from_unet(state, PREFIX)
        if any(k.startswith(PREFIX) for k in state)
        else None
    )
    if not isinstance(config, comfy.supported_models.SD15):
        kind = "no U-Net that is known" if config is None else type(config).__name__
        raise Problem(f"expected an SD1.x checkpoint, got {kind} in {path}: {another}.")
    if config.unet_config["in_channels"] != CHANNELS:
        channels = config.unet_config["in_channels"]
        raise Problem(
            f"expected {CHANNELS} input channels, got {channels} (of inpainting, or already joint) in {path}: "
            f"{another}."
        )
    for part, prefixes in (("a CLIP", config.text_encoder_key_prefix), ("a VAE", config.vae_key_prefix)):
        if not any(k.startswith(tuple(prefixes)) for k in state):
            raise Problem(f"expected {part} in the checkpoint, got none in {path}: give --checkpoint a full one.")
    kind = config.model_type(state, PREFIX)
    sigmas = comfy.model_base.model_sampling(config, kind).sigmas
    assert isinstance(sigmas, torch.Tensor)
    return Source(path, config, kind == comfy.model_base.ModelType.V_PREDICTION, sigmas)


def check_output(path: Path, checkpoint: Path) -> None:
    """Raises Problem where the joint checkpoint cannot be written to `path`, or would take the place of something else."""
    if path.suffix != ".safetensors":
        raise Problem(f"expected --out to end in .safetensors, got {path}: rename it.")
    if path.resolve() == checkpoint.resolve():
        raise Problem(f"expected --out to be another file than --checkpoint, got {path} for both: rename --out.")
    if not path.exists():
        return
    try:
        with safetensors.safe_open(path, framework="pt"):
            pass
    except (safetensors.SafetensorError, OSError) as error:
        raise Problem(
            f"expected nothing or a safetensors file at --out, got something else at {path}: give --out another name."
        ) from error


def write_joint(source: Source, unet: UNetModel, path: Path, steps: int) -> None:
    """The source's tensors with the joint U-Net in place of its own, each in the type that it had, and with the format
    in the metadata."""
    tensors, metadata = source.tensors()
    for name, value in unet.state_dict().items():
        before = tensors.get(PREFIX + name)
        tensors[PREFIX + name] = value.detach().to("cpu", value.dtype if before is None else before.dtype).contiguous()
    facts = {"commit": commit(), "seed": "0", "steps": str(steps), "checkpoint": source.path.name}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={**metadata, **facts, **JointFormat(ORDER).metadata()})
        temporary.chmod(0o644)  # the library makes it readable by its writer alone
