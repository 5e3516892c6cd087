"""ComfyUI's side: folders, device, memory, progress and interruption. The only module that
knows its interfaces; without ComfyUI (in tests) it is the CPU, without a bar."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any

import torch

from esrgan_ext.errors import UpscaleCancelled

FOLDER = "upscale_models"


def model_files() -> list[str]:
    """Files of ComfyUI's folder for upscale models, relative to it."""
    try:
        import folder_paths
    except ImportError:
        return []
    return list(folder_paths.get_filename_list(FOLDER))


def model_path(name: str) -> str:
    import folder_paths

    return str(folder_paths.get_full_path_or_raise(FOLDER, name))


def _management() -> Any:
    try:
        from comfy import model_management
    except ImportError:
        return None
    return model_management


def device() -> torch.device:
    management = _management()
    return torch.device("cpu") if management is None else management.get_torch_device()


def free_memory(wanted: int, device: torch.device) -> None:
    """Have ComfyUI unload models until so many bytes are free."""
    management = _management()
    if management is not None:
        management.free_memory(wanted, device)


def say(text: str) -> None:
    logging.getLogger("comfyui_esrgan").warning(text)


class Progress:
    """ComfyUI's bar and its stop button, as esrgan_ext calls them."""

    def __init__(self, total: int) -> None:
        self._before, self._total = 0, total
        self._bar: Any = None
        self._interruption: BaseException | None = None

    def __enter__(self) -> Progress:
        try:
            from comfy.utils import ProgressBar
        except ImportError:
            return self
        self._bar = ProgressBar(self._total)
        return self

    def __call__(self, done: int, total: int) -> bool:
        management = _management()
        if management is not None:
            try:
                management.throw_exception_if_processing_interrupted()
            except BaseException as interruption:
                self._interruption = interruption
                return False
        if self._bar is not None:
            self._bar.update_absolute(self._before + done, self._total)
        return True

    def part_done(self, pixels: int) -> None:
        """Begin the next count where this one ended."""
        self._before += pixels

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # ComfyUI knows an interruption by its own exception.
        if isinstance(error, UpscaleCancelled) and self._interruption is not None:
            raise self._interruption from None
