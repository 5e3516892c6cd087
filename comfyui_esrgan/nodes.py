"""The four nodes. What ComfyUI decides (device, memory, progress, interruption, folders) is asked
of it in `host`; the work is esrgan_ext's."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

import esrgan_ext
from esrgan_ext.errors import OptionError
from esrgan_ext.models import SRNetwork
from esrgan_ext.weights import info_of, interpolate, load_model

from . import host

CATEGORY = "image/upscaling/ESRGAN"

# The type of the models that these nodes hand on; UPSCALE_MODEL is ComfyUI's own.
MODEL = "ESRGAN_MODEL"


def _models() -> list[str]:
    """Names of the catalogue, then files of ComfyUI's folder."""
    known = [info.name for info in esrgan_ext.list_models()]
    return known + [name for name in host.model_files() if name not in known]


def _path_or_name(model: str) -> str:
    if any(info.name == model for info in esrgan_ext.list_models()):
        return model
    return host.model_path(model)


class LoadModel:
    """A model of the catalogue, or a file of ComfyUI's folder `upscale_models`."""

    CATEGORY = CATEGORY
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The network, for Upscale image (ESRGAN) and Interpolate ESRGAN models.",)
    FUNCTION = "load"
    DESCRIPTION = "Loads a network by name or from models/upscale_models."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        model = {"tooltip": "A name of the catalogue, or a file of models/upscale_models."}
        return {"required": {"model": (_models(), model)}}

    def load(self, model: str) -> tuple[SRNetwork]:
        network = load_model(_path_or_name(model))
        return (network,)  # type: ignore[return-value]


class UpscaleImage:
    """Upscales a batch of images, with a mask as their alpha."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE", "MASK")
    OUTPUT_TOOLTIPS = ("The upscaled images.", "Their alpha; ones where no mask came in.")
    FUNCTION = "upscale"
    DESCRIPTION = "Upscales images, and a mask with them, in esrgan_ext's kernels."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        factor = {
            "default": 0.0, "min": 0.0, "max": 16.0, "step": 0.1,
            "tooltip": "Output pixels per input pixel along each axis; 0 is the model's own scale.",
        }  # fmt: skip
        denoise = {
            "default": -1.0, "min": -1.0, "max": 1.0, "step": 0.05,
            "tooltip": "0 to 1 with a model that has the choice; -1 is the model as it stands.",
        }  # fmt: skip
        consistent = {
            "default": False,
            "tooltip": "The result averages down to the image again, to within half a level.",
        }
        return {
            "required": {
                "model": (MODEL, {"tooltip": "From Load ESRGAN model, or a mix of two."}),
                "image": ("IMAGE", {"tooltip": "Images of one size; each is upscaled by itself."}),
                "factor": ("FLOAT", factor),
                "denoise": ("FLOAT", denoise),
                "consistent": ("BOOLEAN", consistent),
            },
            "optional": {
                "mask": ("MASK", {"tooltip": "Upscaled with the images, as their alpha."})
            },
        }

    def upscale(
        self,
        model: SRNetwork,
        image: Tensor,
        factor: float = 0.0,
        denoise: float = -1.0,
        consistent: bool = False,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """IMAGE is N, H, W, C and MASK N, H, W (or H, W), float32 in [0, 1].

        Without a mask the second result is an alpha of ones.
        """
        device = host.device()
        upscaler = esrgan_ext.Upscaler(
            model if denoise < 0 else _origin(model),
            outscale=factor or None,
            denoise=None if denoise < 0 else denoise,
            consistent=consistent,
            device=str(device),
            data_range="type",
        )
        pixels = image.movedim(-1, 1)
        height, width = pixels.shape[2:]
        plan = upscaler.plan(tuple(pixels.shape), np.dtype(np.float32), channel_axis=1)
        host.free_memory(plan.work_bytes, device)
        alpha = None if mask is None else _alpha(mask, pixels)
        total = pixels.shape[0] * height * width
        with host.Progress(total * (1 if alpha is None else 2)) as progress:
            colours = upscaler(pixels, progress=progress)
            progress.part_done(total)
            if alpha is None:
                opacity = colours.new_ones((colours.shape[0], *colours.shape[2:]))
            else:
                opacity = upscaler(alpha, progress=progress)[:, 0]
        return colours.clamp(0, 1).movedim(1, -1).contiguous(), opacity.clamp(0, 1)


def _origin(model: SRNetwork) -> str | Path:
    """Where the weights came from: a strength of denoising is a mix of two files."""
    info = info_of(model)
    if info.path is None:
        raise OptionError(
            f"denoise mixes the files of two models, and {info.name} is no file: set denoise to -1"
        )
    return info.path


def _alpha(mask: Tensor, pixels: Tensor) -> Tensor:
    """A mask as N, 1, H, W of the images; one mask is that of all of them."""
    alpha = mask.float().reshape(-1, 1, *mask.shape[-2:]).cpu()
    if bool((alpha == alpha[:1, :, :1, :1]).all()):  # "Load Image" gives 64 x 64 for no mask
        alpha = alpha[:1, :, :1, :1].expand(1, 1, *pixels.shape[2:])
    if alpha.shape[2:] != pixels.shape[2:]:
        raise ValueError(
            f"the mask has {alpha.shape[3]} x {alpha.shape[2]} pixels, the image "
            f"{pixels.shape[3]} x {pixels.shape[2]}: scale the mask first"
        )
    if alpha.shape[0] not in (1, pixels.shape[0]):
        raise ValueError(f"{alpha.shape[0]} masks for {pixels.shape[0]} images")
    return alpha.expand(pixels.shape[0], -1, -1, -1)


class InterpolateModels:
    """A network between two of one architecture (ESRGAN's network interpolation)."""

    CATEGORY = CATEGORY
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The network between the two.",)
    FUNCTION = "mix"
    DESCRIPTION = "0 is the first model, 1 the second; between them detail against artefacts."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        alpha = {
            "default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01, "display": "slider",
            "tooltip": "Share of the second model.",
        }  # fmt: skip
        return {
            "required": {
                "first": (MODEL, {"tooltip": "What alpha = 0 gives."}),
                "second": (MODEL, {"tooltip": "What alpha = 1 gives; of the same architecture."}),
                "alpha": ("FLOAT", alpha),
            }
        }

    def mix(self, first: SRNetwork, second: SRNetwork, alpha: float) -> tuple[SRNetwork]:
        return (interpolate(first, second, alpha),)  # type: ignore[return-value]


class AccelerateModel:
    """Puts esrgan_ext's forward pass into a model that ComfyUI has loaded."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("UPSCALE_MODEL",)
    RETURN_NAMES = ("upscale_model",)
    OUTPUT_TOOLTIPS = ("The same model, faster; as it came in where it is no ESRGAN network.",)
    FUNCTION = "accelerate"
    DESCRIPTION = "Between Load Upscale Model and Upscale Image (using Model): the same, faster."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        model = {"tooltip": "From Load Upscale Model."}
        return {"required": {"upscale_model": ("UPSCALE_MODEL", model)}}

    def accelerate(self, upscale_model: Any) -> tuple[Any]:
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            fast = esrgan_ext.accelerate(upscale_model)
        for note in notes:
            host.say(str(note.message))
        return (fast,)


NODE_CLASS_MAPPINGS: dict[str, type] = {
    "EsrganLoadModel": LoadModel,
    "EsrganUpscaleImage": UpscaleImage,
    "EsrganInterpolateModels": InterpolateModels,
    "EsrganAccelerateModel": AccelerateModel,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "EsrganLoadModel": "Load ESRGAN model",
    "EsrganUpscaleImage": "Upscale image (ESRGAN)",
    "EsrganInterpolateModels": "Interpolate ESRGAN models",
    "EsrganAccelerateModel": "Accelerate upscale model",
}
