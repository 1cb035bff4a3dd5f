"""Checkpoints: reads the SD1.x or SDXL checkpoint that a joint model starts from and writes the joint one for
ComfyUI's loaders."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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

from ...demo.launcher.files import Problem, commit, replacing
from ...demo.training.jedi.network import FIRST_LAYER, ORDER, widened
from ...kernels.jedi import CHANNELS
from ...patching.jedi.format import IN_CHANNELS, JointFormat

PREFIX = "model.diffusion_model."
_SDXL_TEXTS = "conditioner.embedders."


@dataclass(frozen=True, eq=False)
class Source:
    """SD1.x or SDXL checkpoint with U-Net, CLIP and VAE. config: the host's model config, detected from the file."""

    path: Path
    config: BASE
    velocity: bool
    """True if the U-Net predicts the velocity, False if it predicts the noise."""
    sigmas: torch.Tensor
    """Noise levels [steps] of its training schedule, in the variance-exploding convention."""

    steps = 20_000
    learning_rate = 1e-5
    recomputes = True
    """True if training recomputes activations, which saves memory and costs a third more time."""

    @property
    def latent_format(self) -> LatentFormat:
        # The host declares a class here, but its constructor puts an object in its place.
        return cast(LatentFormat, self.config.latent_format)

    @property
    def is_sdxl(self) -> bool:
        return isinstance(self.config, comfy.supported_models.SDXL)

    @property
    def resolution(self) -> int:
        """Side in pixels of the pictures that the checkpoint was trained on."""
        return 1024 if self.is_sdxl else 512

    def vector(self, pooled: torch.Tensor, resolution: int) -> torch.Tensor:
        """Vector [rows, width] that SDXL's U-Net takes: pooled captions [rows, channels] and the pictures' size."""
        return self._sdxl.encode_adm(pooled_output=pooled, width=resolution, height=resolution)

    @cached_property
    def _sdxl(self) -> comfy.model_base.SDXL:
        """Host's SDXL without its network."""
        config = type(self.config)({**self.config.unet_config, "disable_unet_model_creation": True})
        return comfy.model_base.SDXL(config, device=torch.device("cpu"))

    def tensors(self) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """Tensors and metadata of the file."""
        with safetensors.safe_open(self.path, framework="pt") as file:
            names = list(file.keys())  # the file is not a mapping
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}

    def encoders(self) -> tuple[comfy.sd.CLIP, comfy.sd.VAE]:
        """Loads CLIP and VAE with the host's loader."""
        _, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(self.path), output_model=False)
        assert clip is not None and vae is not None
        return clip, vae

    def joint_unet(self, device: torch.device) -> UNetModel:
        """Loads the U-Net in float32 with nine input channels; before training, the new channels have no effect.

        Raises Problem if a weight is missing.
        """
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
    """Opens an SD1.x or SDXL checkpoint. Raises Problem for any other, and for one without CLIP or VAE."""
    another = "give --checkpoint another file"
    if not path.is_file():
        raise Problem(f"expected an SD1.x or SDXL checkpoint at {path}, got no such file: correct --checkpoint.")
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
    if not isinstance(config, (comfy.supported_models.SD15, comfy.supported_models.SDXL)):
        kind = "no U-Net that is known" if config is None else type(config).__name__
        raise Problem(f"expected an SD1.x or SDXL checkpoint, got {kind} in {path}: {another}.")
    if config.unet_config["in_channels"] != CHANNELS:
        channels = config.unet_config["in_channels"]
        raise Problem(
            f"expected {CHANNELS} input channels, got {channels} (of inpainting, or already joint) in {path}: "
            f"{another}."
        )
    sdxl = isinstance(config, comfy.supported_models.SDXL)
    texts = [_SDXL_TEXTS] if sdxl else config.text_encoder_key_prefix
    for part, prefixes in (("a CLIP", texts), ("a VAE", config.vae_key_prefix)):
        if not any(k.startswith(tuple(prefixes)) for k in state):
            raise Problem(f"expected {part} in the checkpoint, got none in {path}: give --checkpoint a full one.")
    kind = config.model_type(state, PREFIX)
    if kind not in (comfy.model_base.ModelType.EPS, comfy.model_base.ModelType.V_PREDICTION):
        raise Problem(f"expected a checkpoint that predicts noise or velocity, got {kind.name} in {path}: {another}.")
    sigmas = comfy.model_base.model_sampling(config, kind).sigmas
    assert isinstance(sigmas, torch.Tensor)
    return Source(path, config, kind == comfy.model_base.ModelType.V_PREDICTION, sigmas)


def check_output(path: Path, checkpoint: Path) -> None:
    """Checks the output path. Raises Problem if it is not a .safetensors path, is the source, or holds another kind of
    file."""
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
    """Writes the source's tensors with the joint U-Net in place of its own, each in its original dtype.

    The metadata of the source stays; the joint format is added to it.
    """
    tensors, metadata = source.tensors()
    for name, value in unet.state_dict().items():
        before = tensors.get(PREFIX + name)
        tensors[PREFIX + name] = value.detach().to("cpu", value.dtype if before is None else before.dtype).contiguous()
    facts = {"commit": commit(), "seed": "0", "steps": str(steps), "checkpoint": source.path.name}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={**metadata, **facts, **JointFormat(ORDER).metadata()})
        temporary.chmod(0o644)  # safetensors makes it readable only by its owner
