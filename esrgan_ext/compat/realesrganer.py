"""Real-ESRGAN's class of this name, for scripts that were written for it: arguments, arrays in
OpenCV's order, padding and return values are that class's; the network runs in our kernels."""

from __future__ import annotations

import hashlib
import os
import urllib.parse
from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esrgan_ext.compat.acceleration import accelerate
from esrgan_ext.errors import ImageError, OptionError
from esrgan_ext.inference.devices import choose_device
from esrgan_ext.inference.tiles import Rect, split, window
from esrgan_ext.models.network import pad_to_multiple
from esrgan_ext.weights import interpolate, load_model
from esrgan_ext.weights.catalogue import CATALOGUE
from esrgan_ext.weights.download import cache_folder, download

Path = str | os.PathLike[str]


class RealESRGANer:
    """Upscales OpenCV's images.

    Parameters
    ----------
    scale : int
        The network's own scale.
    model_path : path, address, name, or two of them
        Weights, or a name of the catalogue. An address (https) is downloaded once into the cache
        folder of the package; a published one is the catalogue's model. Two are mixed by
        `dni_weight`. None takes `model` with the weights that it has.
    dni_weight : (float, float), optional
        Shares of the two models; they add up to 1. Unused with one model.
    model : nn.Module, optional
        Only used where `model_path` is None: the file says itself what network it is.
    tile : int
        Side of tiles in input pixels, 0 for none.
    tile_pad, pre_pad : int
        Context around a tile; pixels repeated by reflection below and right of the image.
    half : bool
        float16, on a GPU. On a CPU float32 is used, which is faster there and exact.
    device : torch.device or str, optional
        The GPU where there is one, else the CPU.
    gpu_id : int, optional
        Which GPU; the CPU where there is none. Unused with a `device`.

    Raises
    ------
    ModelError, DownloadError, DeviceError
        The model cannot be read, or not be had; the device is not there.
    OptionError
        The weights' scale is not `scale`, or the shares do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from esrgan_ext.compat import RealESRGANer
    >>> upsampler = RealESRGANer(scale=4, model_path="lite-psnr-x4", device="cpu")
    >>> output, mode = upsampler.enhance(np.zeros((24, 32, 3), np.uint8), outscale=2)
    >>> output.shape, mode
    ((48, 64, 3), 'RGB')
    """

    def __init__(
        self,
        scale: int,
        model_path: Path | Sequence[Path] | None,
        dni_weight: Sequence[float] | None = None,
        model: nn.Module | None = None,
        tile: int = 0,
        tile_pad: int = 10,
        pre_pad: int = 10,
        half: bool = False,
        device: str | torch.device | None = None,
        gpu_id: int | None = None,
    ) -> None:
        self.scale, self.tile_size, self.tile_pad, self.pre_pad = scale, tile, tile_pad, pre_pad
        self.mod_scale: int | None = {1: 4, 2: 2}.get(scale)
        if device is None:
            device = f"cuda:{gpu_id}" if gpu_id and torch.cuda.is_available() else "auto"
        self.device = choose_device(device, "fp32").device
        self.half = half and self.device.type != "cpu"
        network = _loaded(model_path, dni_weight, model)
        own = getattr(network, "scale", scale)
        if model_path is not None and own != scale:
            raise OptionError(f"the model upscales by {own}, scale says {scale}")
        network = network.eval().to(self.device)
        self.model = network.half() if self.half else network

    @torch.inference_mode()
    def enhance(
        self,
        img: np.ndarray,
        outscale: float | None = None,
        alpha_upsampler: str = "realesrgan",
    ) -> tuple[np.ndarray, Literal["L", "RGB", "RGBA"]]:
        """Upscale an image.

        Parameters
        ----------
        img : ndarray, uint8 or uint16
            H, W | H, W, 3 (BGR) | H, W, 4 (BGRA). As in the original, an image without a value
            above 256 counts as one of 8 bits, and floats may stand for either.
        outscale : float, optional
            Resize the result to this factor (Lanczos), its sides cut to whole pixels; `scale` by
            default.
        alpha_upsampler : str
            'realesrgan' upscales alpha by the network, anything else linearly.

        Returns
        -------
        ndarray
            uint8 or uint16, the channels of `img`.
        str
            'L', 'RGB' or 'RGBA'.

        Raises
        ------
        ImageError
            `img` is no array, or has other axes, or a side that is not longer than `pre_pad` (which
            is a RuntimeError too, as scripts expect it).
        OptionError
            `outscale` leaves no pixel.

        Examples
        --------
        >>> import numpy as np
        >>> from esrgan_ext.compat import RealESRGANer
        >>> upsampler = RealESRGANer(scale=4, model_path="lite-psnr-x4", device="cpu")
        >>> output, mode = upsampler.enhance(np.full((24, 32), 40000, np.uint16))
        >>> output.shape, output.dtype, mode
        ((96, 128), dtype('uint16'), 'L')
        """
        if not isinstance(img, np.ndarray):
            raise ImageError(
                f"enhance takes an array, not {type(img).__name__} (cv2.imread gives None for what "
                "it cannot read)"
            )
        if img.ndim not in (2, 3) or (img.ndim == 3 and img.shape[2] not in (3, 4)) or not img.size:
            raise ImageError(f"enhance takes H, W | H, W, 3 | H, W, 4, not {img.shape}")
        height, width = img.shape[:2]
        if outscale is not None and not min(height, width) * outscale >= 1:
            raise OptionError(f"outscale={outscale} leaves no pixel of {width} x {height}")
        values = img.astype(np.float32)
        full, kind = (65535.0, np.uint16) if values.max() > 256 else (255.0, np.uint8)
        values /= full
        mode: Literal["L", "RGB", "RGBA"] = "RGB"
        if img.ndim == 2:
            mode, colours = "L", np.repeat(values[..., None], 3, 2)
        else:
            colours = values[..., 2::-1]
            mode = "RGBA" if img.shape[2] == 4 else "RGB"
        output = self._run(colours)[..., ::-1]  # BGR again
        if mode == "L":
            output = cv2.cvtColor(np.ascontiguousarray(output), cv2.COLOR_BGR2GRAY)
        if mode == "RGBA":
            alpha: Any = values[..., 3]
            if alpha_upsampler == "realesrgan":
                planes = self._run(np.repeat(alpha[..., None], 3, 2))
                alpha = cv2.cvtColor(np.ascontiguousarray(planes[..., ::-1]), cv2.COLOR_BGR2GRAY)
            else:
                size = (width * self.scale, height * self.scale)
                alpha = cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR)
            output = np.dstack((output, alpha))
        result: Any = (output * full).round().astype(kind)
        if outscale is not None and outscale != float(self.scale):
            size = (int(width * outscale), int(height * outscale))
            result = cv2.resize(result, size, interpolation=cv2.INTER_LANCZOS4)
        return result, mode

    def _run(self, colours: np.ndarray) -> np.ndarray:
        """RGB in [0, 1], H, W, 3, through the network and clamped."""
        height, width = colours.shape[:2]
        x = torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1)))[None]
        x = x.to(self.device, torch.float16 if self.half else torch.float32)
        if self.pre_pad >= min(height, width):
            raise _TooSmall(
                f"an image of {width} x {height} pixels cannot be reflected by pre_pad="
                f"{self.pre_pad}: give a smaller pre_pad"
            )
        if self.pre_pad:
            x = F.pad(x, (0, self.pre_pad, 0, self.pre_pad), "reflect")
        if self.mod_scale is not None:
            x = pad_to_multiple(x, self.mod_scale)
        y = self._tiled(x) if self.tile_size > 0 else self.model(x)
        y = y[0, :, : height * self.scale, : width * self.scale].float().clamp(0, 1)
        return y.cpu().numpy().transpose(1, 2, 0)

    def _tiled(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        scale = self.scale
        out = x.new_zeros((n, channels, height * scale, width * scale))
        for core in split(Rect(0, height, 0, width), self.tile_size):
            seen = window(core, self.tile_pad, height, width)
            y = self.model(x[:, :, seen.rows, seen.columns])
            target, part = core.times(scale), core.shifted(-seen.y0, -seen.x0).times(scale)
            out[:, :, target.rows, target.columns] = y[:, :, part.rows, part.columns]
        return out


class _TooSmall(ImageError, RuntimeError):
    """A RuntimeError as torch's reflection raises it, which scripts catch for each image."""


def _loaded(
    model_path: Path | Sequence[Path] | None,
    shares: Sequence[float] | None,
    model: nn.Module | None,
) -> nn.Module:
    if model_path is None:
        if model is None:
            raise OptionError("give model_path or model")
        return accelerate(model)
    if isinstance(model_path, str | os.PathLike):
        return load_model(_found(model_path))
    paths = [_found(path) for path in model_path]
    if len(paths) != 2 or shares is None or len(shares) != 2 or abs(sum(shares) - 1) > 1e-6:
        raise OptionError("two models need dni_weight with two shares that add up to 1")
    return interpolate(paths[0], paths[1], shares[1])


def _found(path: Path) -> Path:
    """A name or a file for the loader, from a name, a file or an address."""
    address = os.fspath(path)
    if not address.startswith(("https://", "http://")):
        return path
    for entry in CATALOGUE.values():
        if any(getattr(source, "url", None) == address for source in entry.sources):
            return entry.name
    name = urllib.parse.urlsplit(address).path.rpartition("/")[2]
    folder = cache_folder() / "addresses" / hashlib.sha256(address.encode()).hexdigest()[:12]
    return download(address, folder / (name or "weights.pth"), sha256="")  # of any content
