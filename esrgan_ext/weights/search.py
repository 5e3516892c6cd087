"""Finds the file behind a model's name or path, without loading it.

The order: a path; a name of the catalogue; a file of the user's in `./models` or a folder of
`ESRGAN_MODEL_DIR`, by its stem; another name under which a catalogue model is known.
"""

from __future__ import annotations

import difflib
import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from esrgan_ext.errors import ModelError
from esrgan_ext.weights.catalogue import CATALOGUE, Entry
from esrgan_ext.weights.download import Progress, file_sha256
from esrgan_ext.weights.folders import LISTED_SUFFIXES, user_files
from esrgan_ext.weights.info import ModelInfo, default_overlap
from esrgan_ext.weights.sources import Source
from esrgan_ext.weights.zoo.reading import DESCRIPTIONS, PACKAGE_SUFFIXES, description_in


@dataclass(frozen=True)
class Found:
    """Where a model is.

    Attributes
    ----------
    path : Path or None
        The file; None where it is still to be fetched.
    entry : Entry or None
        None for a file that is no published one.
    source : Source or None
        The one of the entry's that the file comes from, or that brings it.
    """

    path: Path | None
    entry: Entry | None = None
    source: Source | None = None


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
        return _of_file(path)
    if entry := CATALOGUE.get(text.lower()):
        return locate_entry(entry)
    for path in user_files():
        if path.stem.lower() == text.lower():
            return _of_file(path)
    for entry in CATALOGUE.values():
        if text.lower() in (alias.lower() for alias in entry.aliases):
            return locate_entry(entry)
    if Path(text).is_file():
        return _of_file(Path(text))
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
    """The best copy of a catalogue model here.

    Raises
    ------
    ModelError
        A file is here, but is not what was published.
    """
    for source in entry.sources:
        if (path := source.find(entry.stems)) is not None:
            return Found(path, entry, source)
    return Found(None, entry, entry.sources[-1])


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
    assert found.source is not None
    return found.source.fetch(found.entry.name, found.entry.stems, progress)


def _of_file(path: Path) -> Found:
    """A file, and the catalogue model that it is a published copy of."""
    pair = (path.with_suffix(".param"), path.with_suffix(".bin"))
    hashes = tuple(file_sha256(file) for file in (pair if _is_ncnn(path) else (path,)))
    found = [
        Found(path, entry, source)
        for entry in CATALOGUE.values()
        for source in entry.sources
        if source.hashes[-1] == hashes[-1]
    ]
    if len(found) > 1:  # models that share their numbers and differ in the graph
        found = [one for one in found if one.source and one.source.hashes == hashes]
    return found[0] if found else Found(path)


def _is_ncnn(path: Path) -> bool:
    return path.suffix.lower() in (".param", ".bin") and all(
        path.with_suffix(suffix).is_file() for suffix in (".param", ".bin")
    )


def describe(found: Found) -> ModelInfo:
    """The `ModelInfo` of a located model; reads shapes out of a user's own file.

    Raises
    ------
    ModelError
        The file is not an ESRGAN network.
    """
    if found.entry is None:
        assert found.path is not None
        return _describe_file(found.path)
    assert found.source is not None
    info = replace(found.entry.info(found.source), path=found.path)
    if info.size_bytes is None and found.path is not None:
        info = replace(info, size_bytes=found.path.stat().st_size)
    return info


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
        A model as `load_model` takes it.

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
            models.append(entry.info(entry.sources[0]))
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
