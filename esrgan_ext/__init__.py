"""ESRGAN-family image upscaling from a script.

Everything public is here and loaded on first use: importing this package imports neither
torch nor anything else of weight, and compiles nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from esrgan_ext.lazy import lazy_names

__version__ = "0.1.0"

if TYPE_CHECKING:
    from esrgan_ext.compat import accelerate
    from esrgan_ext.errors import (
        ArchitectureMismatch,
        DeviceError,
        DownloadError,
        EsrganError,
        ImageError,
        ImageFileError,
        ModelError,
        OptionError,
        OutOfMemory,
        ResumeError,
        SchedulerError,
        TrainingError,
        UpscaleCancelled,
    )
    from esrgan_ext.evaluation import Evaluation, evaluate
    from esrgan_ext.inference import Upscaler, upscale
    from esrgan_ext.inference.file_functions import FileResult, upscale_file, upscale_files
    from esrgan_ext.inference.large import upscale_lazy, upscale_store
    from esrgan_ext.inference.large.store.options import StoreOptions
    from esrgan_ext.inference.options import UpscaleOptions
    from esrgan_ext.inference.video import VideoResult, upscale_frames, upscale_video
    from esrgan_ext.weights import ModelInfo, interpolate, list_models, load_model, save_model

_HOME = {
    "accelerate": "esrgan_ext.compat",
    "Evaluation": "esrgan_ext.evaluation",
    "evaluate": "esrgan_ext.evaluation",
    "Upscaler": "esrgan_ext.inference",
    "upscale": "esrgan_ext.inference",
    "FileResult": "esrgan_ext.inference.file_functions",
    "upscale_file": "esrgan_ext.inference.file_functions",
    "upscale_files": "esrgan_ext.inference.file_functions",
    "upscale_lazy": "esrgan_ext.inference.large",
    "upscale_store": "esrgan_ext.inference.large",
    "StoreOptions": "esrgan_ext.inference.large.store.options",
    "UpscaleOptions": "esrgan_ext.inference.options",
    "VideoResult": "esrgan_ext.inference.video",
    "upscale_frames": "esrgan_ext.inference.video",
    "upscale_video": "esrgan_ext.inference.video",
    "ModelInfo": "esrgan_ext.weights",
    "interpolate": "esrgan_ext.weights",
    "list_models": "esrgan_ext.weights",
    "load_model": "esrgan_ext.weights",
    "save_model": "esrgan_ext.weights",
    "ArchitectureMismatch": "esrgan_ext.errors",
    "DeviceError": "esrgan_ext.errors",
    "DownloadError": "esrgan_ext.errors",
    "EsrganError": "esrgan_ext.errors",
    "ImageError": "esrgan_ext.errors",
    "ImageFileError": "esrgan_ext.errors",
    "ModelError": "esrgan_ext.errors",
    "OptionError": "esrgan_ext.errors",
    "OutOfMemory": "esrgan_ext.errors",
    "ResumeError": "esrgan_ext.errors",
    "SchedulerError": "esrgan_ext.errors",
    "TrainingError": "esrgan_ext.errors",
    "UpscaleCancelled": "esrgan_ext.errors",
}

__all__ = [
    "ArchitectureMismatch",
    "DeviceError",
    "DownloadError",
    "EsrganError",
    "Evaluation",
    "FileResult",
    "ImageError",
    "ImageFileError",
    "ModelError",
    "ModelInfo",
    "OptionError",
    "OutOfMemory",
    "ResumeError",
    "SchedulerError",
    "StoreOptions",
    "TrainingError",
    "UpscaleCancelled",
    "UpscaleOptions",
    "Upscaler",
    "VideoResult",
    "__version__",
    "accelerate",
    "evaluate",
    "interpolate",
    "list_models",
    "load_model",
    "save_model",
    "upscale",
    "upscale_file",
    "upscale_files",
    "upscale_frames",
    "upscale_lazy",
    "upscale_store",
    "upscale_video",
]

__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted(__all__)
