"""A folder of photos, decoded once into one file of raw pixels that all processes map.

Crops are then read where they lie, which replaces the usual extraction of sub-images: images of
any size cost the same, nothing is decoded twice, and memory is the system's page cache. LR images
are made of whole HR images (or come from a paired folder) and lie beside them.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from esrgan_ext.errors import ImageError, ImageFileError, OptionError, TrainingError
from esrgan_ext.inference.files import ImageFile, read_image, replacing
from esrgan_ext.inference.headers import SUFFIXES
from esrgan_ext.training.bicubic import crop_to_multiple, downscale

_VERSION = 1  # of the packed layout; another one is packed again


@dataclass(frozen=True)
class Placed:
    """Where an image lies in the packed file: its name, HR and LR offsets, HR height and width.

    `lr_offset` is -1 where no LR image was packed.
    """

    name: str
    hr_offset: int
    lr_offset: int
    height: int
    width: int


class PackedImages:
    """Images of a packed file, as views of it.

    Attributes
    ----------
    images : tuple of Placed
    skipped : tuple of (str, str)
        Name and reason of each file that could not be used.
    """

    def __init__(self, path: Path, scale: int) -> None:
        index = json.loads(path.with_suffix(".json").read_text("utf-8"))
        self.images = tuple(Placed(**entry) for entry in index["images"])
        self.skipped = tuple((name, reason) for name, reason in index["skipped"])
        self._path, self._scale = path, scale
        self._pixels = np.memmap(path, np.uint8, "r")

    @property
    def pixels(self) -> np.ndarray:
        """All of the file, flat, uint8, read-only."""
        return self._pixels

    def hr(self, image: Placed) -> np.ndarray:
        """HR pixels, shape (H, W, 3), uint8, read-only."""
        return self._view(image.hr_offset, image.height, image.width)

    def lr(self, image: Placed) -> np.ndarray:
        """LR pixels, shape (H / scale, W / scale, 3), uint8, read-only."""
        return self._view(image.lr_offset, image.height // self._scale, image.width // self._scale)

    def _view(self, offset: int, height: int, width: int) -> np.ndarray:
        size = height * width * 3
        return self._pixels[offset : offset + size].reshape(height, width, 3)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_pixels": None}  # worker processes map the file themselves

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._pixels = np.memmap(self._path, np.uint8, "r")


def rgb8(file: ImageFile) -> np.ndarray:
    """A file's pixels as uint8 RGB; alpha is dropped, gray repeated, 16 bit rounded.

    Raises
    ------
    ImageError
        A stack of planes, several images, or float pixels.
    """
    if file.further:
        raise ImageError(f"the file holds {1 + len(file.further)} images, not one photo")
    pixels = file.pixels
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.dtype != np.uint8 or pixels.ndim != (2 if file.channel_axis is False else 3):
        raise ImageError(f"not an 8 or 16 bit photo ({pixels.dtype}, {pixels.ndim} axes)")
    if file.channel_axis is False:
        pixels = pixels[..., None]
    colours = pixels[..., :1] if pixels.shape[-1] in (1, 2) else pixels[..., :3]
    return np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3)))


def image_files(folders: Sequence[Path]) -> list[Path]:
    """Image files of the folders and the folders below, sorted.

    Raises
    ------
    OptionError
        A folder does not exist or there is no image in any.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise OptionError(f"{folder}: no such folder")
        found += sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        )
    if not found:
        raise OptionError(f"no image in {', '.join(map(str, folders))}")
    return found


def pack(
    hr_folders: Sequence[Path],
    cache: Path,
    *,
    scale: int,
    smallest: int,
    lr_folder: Path | None = None,
    with_lr: bool = True,
    progress: Callable[[int, int], object] | None = None,
) -> PackedImages:
    """Pack folders, or open what was packed before if nothing changed since.

    Parameters
    ----------
    hr_folders : paths
        All images in them and below.
    cache : path
        Folder of the packed file.
    scale : int
        HR images are cut to a multiple of it.
    smallest : int
        Images with a shorter side than this, in HR pixels, are skipped.
    lr_folder : path, optional
        LR images under the HR images' relative names (any suffix). Else they are made by
        bicubic downscaling.
    with_lr : bool
        False where LR patches are made on the fly.
    progress : callable, optional
        ``progress(done, total)`` in files.

    Raises
    ------
    TrainingError
        No image can be used, or a paired LR image has not 1/scale of its HR image's size.

    Warns
    -----
    UserWarning
        For each file that is skipped: damaged, too small, no photo, or without its LR partner.
    """
    files = [(f, p) for f in hr_folders for p in image_files([f])]
    partners = {} if lr_folder is None else _by_stem(lr_folder)
    key = _key([p for _, p in files], list(partners.values()), scale, smallest, with_lr)
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"images-{key}.u8"
    # The first process packs; the others wait and find it done.
    with FileLock(str(path.with_suffix(".lock"))):
        if not (path.is_file() and path.with_suffix(".json").is_file()):
            with replacing(path) as part:
                images, skipped = _write(
                    files, partners if lr_folder else None, part, scale, smallest, with_lr, progress
                )
                if not images:
                    reasons = "; ".join(f"{name}: {why}" for name, why in skipped[:3])
                    raise TrainingError(f"no image can be used: {reasons}")
            index = {"images": [asdict(i) for i in images], "skipped": skipped}
            with replacing(path.with_suffix(".json")) as part:
                part.write_text(json.dumps(index), "utf-8")
    packed = PackedImages(path, scale)
    for name, reason in packed.skipped:
        warnings.warn(f"{name} is skipped: {reason}", stacklevel=2)
    return packed


def _by_stem(folder: Path) -> dict[str, Path]:
    return {str(p.relative_to(folder).with_suffix("")): p for p in image_files([folder])}


def _key(hr: list[Path], lr: list[Path], scale: int, smallest: int, with_lr: bool) -> str:
    """Changes whenever packing would give something else."""
    digest = hashlib.sha256(f"{_VERSION} {scale} {smallest} {with_lr} {len(lr)}".encode())
    for path in [*hr, *lr]:
        facts = path.stat()
        digest.update(f"{path.resolve()}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def _write(
    files: list[tuple[Path, Path]],
    partners: dict[str, Path] | None,
    part: Path,
    scale: int,
    smallest: int,
    with_lr: bool,
    progress: Callable[[int, int], object] | None,
) -> tuple[list[Placed], list[tuple[str, str]]]:
    images: list[Placed] = []
    skipped: list[tuple[str, str]] = []
    with part.open("wb") as out:
        for number, (folder, path) in enumerate(files):
            try:
                hr = _read_hr(path, scale, smallest)
                lr = None
                if partners is not None:
                    lr = _read_partner(path, folder, partners, hr, scale)
                elif with_lr:
                    lr = downscale(hr, scale)
            except (ImageFileError, ImageError, OSError) as error:
                skipped.append((str(path), str(error).removeprefix(f"{path}: ")))
            else:
                height, width = hr.shape[:2]
                hr_offset = out.tell()
                out.write(np.ascontiguousarray(hr).data)
                lr_offset = -1 if lr is None else out.tell()
                if lr is not None:
                    out.write(np.ascontiguousarray(lr).data)
                images.append(Placed(str(path), hr_offset, lr_offset, height, width))
            if progress is not None:
                progress(number + 1, len(files))
    return images, skipped


def _read_hr(path: Path, scale: int, smallest: int) -> np.ndarray:
    hr = crop_to_multiple(rgb8(read_image(path)), scale)
    height, width = hr.shape[:2]
    if min(height, width) < smallest:
        raise ImageError(f"{width} x {height} pixels are less than a patch of {smallest}")
    return hr


def _read_partner(
    path: Path, folder: Path, partners: dict[str, Path], hr: np.ndarray, scale: int
) -> np.ndarray:
    stem = str(path.relative_to(folder).with_suffix(""))
    names = (stem, f"{stem}x{scale}", f"{stem}_x{scale}", f"{stem}_LRBI_x{scale}")
    partner = next((partners[name] for name in names if name in partners), None)
    if partner is None:
        raise ImageError("it has no LR image of the same name")
    lr = rgb8(read_image(partner))
    height, width = hr.shape[:2]
    if lr.shape[:2] != (height // scale, width // scale):
        raise TrainingError(
            f"{partner} has {lr.shape[1]} x {lr.shape[0]} pixels and {path} {width} x {height}: "
            f"at scale {scale} the LR image must have {width // scale} x {height // scale}"
        )
    return lr
