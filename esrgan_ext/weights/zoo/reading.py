"""Opens a model package of the BioImage.IO zoo (a zip, or a folder with `rdf.yaml`) for its
PyTorch weights.

Packages come from anywhere: no name in one becomes a path to write to, no code in one runs, and
what it claims to hold is read up to a limit. What the package does to an image before and after
the network must be what is done here, else it is refused: the result would be wrong silently.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from esrgan_ext.errors import ModelError, first_line

DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml")
"""Names that the file with a package's description has; the first is the usual one."""

PACKAGE_SUFFIXES = (".zip", ".yaml", ".yml")

# Descriptions have a few thousand bytes. The largest weights of these networks have 70 MB.
MAX_DESCRIPTION_BYTES = 1 << 20
MAX_WEIGHTS_BYTES = 2 << 30

# Trained weights hardly shrink. Beyond this many bytes a zip may not unfold more than so often.
_UNSUSPICIOUS_BYTES = 64 << 20
_MAX_RATIO = 50

_CHUNK = 1 << 20

# What may be done to an image around the network without making another task of it.
_BEFORE = ("ensure_dtype", "scale_linear", "scale_range", "clip")
_AFTER = (*_BEFORE, "scale_mean_variance")


@dataclass(frozen=True)
class Package:
    """One network of a package: its description and its files.

    Attributes
    ----------
    weights : Path
        A copy of the PyTorch state dict, there as long as the package is open.
    config : dict
        The arguments that its architecture is built with. Not trusted.
    scale : int or None
        Output pixels per input pixel, None where the description does not say.
    facts : dict
        Purpose, license and source for tables. Not trusted.
    """

    weights: Path
    config: dict[str, Any]
    scale: int | None
    facts: dict[str, Any]


def is_package(path: Path) -> bool:
    """Whether a path is to be read as a package, by its suffix."""
    return path.suffix.lower() in PACKAGE_SUFFIXES


def description_in(folder: Path) -> Path | None:
    """The file that describes the package in a folder; None where there is none."""
    return next((folder / name for name in DESCRIPTIONS if (folder / name).is_file()), None)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Package]:
    """Open a package.

    Parameters
    ----------
    path : Path
        A zip, or the description in a folder.

    Raises
    ------
    ModelError
        It is no package, damaged or unsafe, not one image in and one out, has no PyTorch state
        dict, or needs steps around the network that are not done here.
    """
    if path.suffix.lower() == ".zip":
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
            raise ModelError(f"{path}: not a zip, or a damaged one ({error})") from error
        with archive:
            inside: _Zip | _Folder = _Zip(path, archive)
            with _read(path, inside) as package:
                yield package
    else:
        with _read(path, _Folder(path)) as package:
            yield package


@contextlib.contextmanager
def _read(path: Path, inside: _Zip | _Folder) -> Iterator[Package]:
    content = _parsed(path, inside.description())
    try:
        entry = _weights_entry(path, content)
        scale = _check_tensors(path, content)
        architecture = entry.get("architecture")
        holder = architecture if isinstance(architecture, dict) else entry
        config = holder.get("kwargs") or entry.get("kwargs") or {}
        facts = _facts(content)
    except (AttributeError, TypeError, KeyError, IndexError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: its description is not that of a model ({error})") from error
    with tempfile.TemporaryDirectory(prefix="esrgan-package-") as folder:
        weights = Path(folder) / "weights.pt"
        _copy(path, inside, str(entry.get("source")), entry.get("sha256"), weights)
        yield Package(weights, dict(config) if isinstance(config, dict) else {}, scale, facts)


class _Zip:
    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self._archive = path, archive
        names = archive.namelist()
        found = [name for name in names if PurePosixPath(name).name in DESCRIPTIONS]
        found.sort(key=lambda name: (name.count("/"), name != DESCRIPTIONS[0]))
        if not found:
            raise ModelError(
                f"{path}: no model package: there is no {' or '.join(DESCRIPTIONS)} in this zip"
            )
        self._description = found[0]
        self._folder = found[0].rpartition("/")[0]

    def description(self) -> bytes:
        with self.open(self._description, MAX_DESCRIPTION_BYTES) as file:
            return _bytes(self._path, file)

    def weights(self, source: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        inner = f"{self._folder}/{source}" if self._folder else source
        return self.open(inner, MAX_WEIGHTS_BYTES)

    @contextlib.contextmanager
    def open(self, name: str, limit: int) -> Iterator[IO[bytes]]:
        entries = [entry for entry in self._archive.infolist() if entry.filename == name]
        if len(entries) != 1:
            times = "is not in the zip" if not entries else f"is {len(entries)} times in the zip"
            raise ModelError(f"{self._path}: {name} {times}")
        entry = entries[0]
        if entry.flag_bits & 1:
            raise ModelError(f"{self._path}: {name} is encrypted")
        inflated = entry.file_size > max(_UNSUSPICIOUS_BYTES, _MAX_RATIO * entry.compress_size)
        if entry.file_size > limit or inflated:
            raise ModelError(
                f"{self._path}: {name} would take {entry.file_size / 1e6:.0f} MB out of "
                f"{entry.compress_size / 1e6:.1f} MB; not what a network's weights look like"
            )
        try:
            with self._archive.open(entry) as file:
                yield file
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
            raise ModelError(f"{self._path}: {name} is damaged ({error})") from error


class _Folder:
    def __init__(self, description: Path) -> None:
        self._path = description

    def description(self) -> bytes:
        with self._open(self._path, MAX_DESCRIPTION_BYTES) as file:
            return _bytes(self._path, file)

    def weights(self, source: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        folder = self._path.parent.resolve()
        file = (folder / source).resolve()
        if not file.is_relative_to(folder):  # a link, say
            raise ModelError(f"{self._path}: {source} lies outside of the package's folder")
        if not file.is_file():
            raise ModelError(f"{self._path}: {source} is not in the folder")
        return self._open(file, MAX_WEIGHTS_BYTES)

    @contextlib.contextmanager
    def _open(self, file: Path, limit: int) -> Iterator[IO[bytes]]:
        try:
            if file.stat().st_size > limit:
                raise ModelError(
                    f"{file}: {file.stat().st_size / 1e6:.0f} MB, more than a package may have"
                )
            with file.open("rb") as stream:
                yield stream
        except OSError as error:
            raise ModelError(f"{file}: cannot be read: {error.strerror or error}") from error


def _bytes(path: Path, file: IO[bytes]) -> bytes:
    content = file.read(MAX_DESCRIPTION_BYTES + 1)
    if len(content) > MAX_DESCRIPTION_BYTES:
        raise ModelError(f"{path}: its description is too long")
    return content


def _copy(path: Path, inside: _Zip | _Folder, source: str, sha256: object, target: Path) -> None:
    pure = PurePosixPath(source)
    if "://" in source:
        raise ModelError(
            f"{path}: its weights are elsewhere ({source}). Download the package as a whole: on "
            "bioimage.io the download button gives a zip with everything in it"
        )
    if pure.is_absolute() or ".." in pure.parts or "\\" in source or ":" in source:
        raise ModelError(f"{path}: {source!r} is not a path within the package")
    digest, size = hashlib.sha256(), 0
    with inside.weights(source) as file, target.open("wb") as copy:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            if size > MAX_WEIGHTS_BYTES:
                raise ModelError(f"{path}: {source} is too large")
            digest.update(chunk)
            copy.write(chunk)
    if isinstance(sha256, str) and digest.hexdigest() != sha256.lower():
        raise ModelError(
            f"{path}: {source} is not the file that the package describes: its SHA-256 differs"
        )


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Without merged mappings: nested ones unfold to any size."""

        def flatten_mapping(self, node: Any) -> None:
            for key, _ in node.value:
                if key.tag == "tag:yaml.org,2002:merge":
                    raise yaml.constructor.ConstructorError(None, None, "merge keys", None)

    try:
        found = yaml.load(content, Loader=Loader)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError, TypeError) as error:
        reason = first_line(error)
        raise ModelError(f"{path}: its description cannot be read ({reason})") from error
    if not isinstance(found, dict) or found.get("type") != "model":
        raise ModelError(f"{path}: its description is not that of a model")
    version = str(found.get("format_version"))
    if not version.startswith(("0.4.", "0.5.")):
        raise ModelError(
            f"{path}: a package of format {version[:20]}; formats 0.4 and 0.5 can be read"
        )
    return found


def _weights_entry(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    weights = content.get("weights")
    kinds = sorted(map(str, weights)) if isinstance(weights, dict) else []
    entry = weights.get("pytorch_state_dict") if isinstance(weights, dict) else None
    if not isinstance(entry, dict):
        raise ModelError(
            f"{path}: weights as {', '.join(kinds)[:200] or 'nothing known'}; a PyTorch state dict "
            "(pytorch_state_dict) is needed"
        )
    return entry


def _check_tensors(path: Path, content: Mapping[str, Any]) -> int | None:
    """Refuse what is not one image in, one larger image out; the scale that is stated."""
    inputs, outputs = content["inputs"], content["outputs"]
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(
            f"{path}: {len(inputs)} tensors in and {len(outputs)} out; one image in and one out "
            "can be run"
        )
    for tensor, role in ((inputs[0], "takes"), (outputs[0], "returns")):
        axes = _axes(tensor)
        if axes not in ("bcyx", "cyx", "byx", "yx"):
            raise ModelError(f"{path}: {role} {axes!r}; images of two axes (bcyx) can be run")
    _check_steps(path, inputs[0], "preprocessing", _BEFORE)
    _check_steps(path, outputs[0], "postprocessing", _AFTER)
    _check_range(path, inputs[0])
    return _scale(inputs[0], outputs[0])


def _axes(tensor: Mapping[str, Any]) -> str:
    """The axes as the letters of format 0.4: batch, channel, y, x, and others by their names."""
    axes = tensor["axes"]
    if isinstance(axes, str):
        return axes.replace("i", "z") if "i" in axes else axes
    letters = {"batch": "b", "channel": "c"}
    found = [letters.get(str(axis["type"]), str(axis.get("id", axis["type"]))) for axis in axes]
    return "".join(found)


def _steps(tensor: Mapping[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
    steps = tensor.get(key) or []
    return [(str(s.get("id", s.get("name"))), dict(s.get("kwargs") or {})) for s in steps]


def _check_steps(path: Path, tensor: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> None:
    for name, arguments in _steps(tensor, key):
        if name not in allowed:
            raise ModelError(f"{path}: its {key} {name!r} is not done here")
        if name == "scale_linear" and any(_numbers(arguments.get("offset", 0.0))):
            raise ModelError(f"{path}: its {key} shifts values (offset); networks here take 0 to 1")


def _numbers(value: Any) -> list[float]:
    return [float(v) for v in (value if isinstance(value, list) else [value])]


def _check_range(path: Path, tensor: Mapping[str, Any]) -> None:
    """Refuse a network that is known to take other values than 0 to 1."""
    steps = _steps(tensor, "preprocessing")
    if any(name == "scale_range" for name, _ in steps):
        return
    data = tensor.get("data") or {}
    data = data[0] if isinstance(data, list) else data
    limits = data.get("range") or tensor.get("data_range") or [None, None]
    dtype = data.get("type") or tensor.get("data_type")
    top = limits[1] if limits[1] is not None else {"uint8": 255, "uint16": 65535}.get(str(dtype))
    gains = [_numbers(a.get("gain", 1.0)) for name, a in steps if name == "scale_linear"]
    if top is None or not math.isfinite(float(top)):
        return
    tops = [float(top)]
    for gain in gains:
        tops = [t * g for t in tops for g in gain]
    if any(not 0.9 <= t <= 1.1 for t in tops):
        raise ModelError(
            f"{path}: its network takes values up to {tops[0]:g}; networks here take 0 to 1"
        )


def _scale(image: Mapping[str, Any], result: Mapping[str, Any]) -> int | None:
    """Output pixels per input pixel along y and x, as far as sizes refer to the input."""
    if isinstance(result["axes"], str):  # format 0.4
        shape = result.get("shape")
        if not isinstance(shape, dict):
            return None
        factors = {axis: float(shape["scale"][result["axes"].index(axis)]) for axis in "yx"}
    else:
        before = {axis.get("id"): axis for axis in image["axes"]}
        factors = {}
        for axis in result["axes"]:
            size = axis.get("size")
            if axis.get("type") != "space" or not isinstance(size, dict):
                continue
            reference = before.get(size.get("axis_id"))
            if reference is not None:
                factors[axis["id"]] = float(reference.get("scale", 1)) / float(axis.get("scale", 1))
    scales = set(factors.values())
    if len(scales) != 1:
        if scales:
            raise ValueError("y and x are enlarged differently")
        return None
    (scale,) = scales
    if abs(scale - round(scale)) > 0.01 * scale or round(scale) < 1:
        raise ValueError(f"it enlarges by {scale:g}")
    return round(scale)


def _facts(content: Mapping[str, Any]) -> dict[str, Any]:
    own = (content.get("config") or {}).get("esrgan_ext")
    facts: dict[str, Any] = dict(own) if isinstance(own, dict) else {}
    facts.pop("config", None)
    if isinstance(content.get("license"), str):
        facts.setdefault("license", content["license"][:100])
    if isinstance(content.get("description"), str):
        facts.setdefault("purpose", " ".join(content["description"].split())[:200])
    return facts
