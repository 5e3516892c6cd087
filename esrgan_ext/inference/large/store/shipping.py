"""Takes a network to the workers of a cluster: once each, to those that join later too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distributed import WorkerPlugin

from esrgan_ext.inference import model_cache


class BringModel(WorkerPlugin):
    """Puts the weights on a worker's disk, where `model_cache` finds them by their digest.

    Parameters
    ----------
    digest : str
        See `model_cache.digest_of`.
    weights : bytes
        A safetensors file.
    """

    def __init__(self, digest: str, weights: bytes) -> None:
        self._digest, self._weights = digest, weights

    def setup(self, worker: Any) -> None:
        path = Path(worker.local_directory) / f"{self._digest}.safetensors"
        path.write_bytes(self._weights)
        model_cache.bring(self._digest, str(path))
