"""Writes trained networks as the float16 files that the package carries.

    python scripts/bundle_models.py lite-psnr-x4=runs/lite-psnr/model.safetensors ...

Prints what `esrgan_ext/weights/catalogue.py` states about each: SHA-256 and size.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from esrgan_ext.weights import load_model
from esrgan_ext.weights.files import METADATA_KEY

FOLDER = Path(__file__).resolve().parent.parent / "esrgan_ext" / "weights" / "data"


def main(arguments: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    for argument in arguments:
        name, _, source = argument.partition("=")
        network = load_model(source)
        tensors = {
            key: value.to(torch.float16).contiguous() for key, value in network.state_dict().items()
        }
        facts = {
            "architecture": type(network).__name__,
            "config": asdict(network.config),
            "name": name,
            "license": "Apache-2.0",
        }
        path = FOLDER / f"{name}.safetensors"
        metadata = {"format": "pt", METADATA_KEY: json.dumps(facts)}
        save_file(tensors, path, metadata=metadata)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f'{path.name}: sha256="{digest}", size_bytes={path.stat().st_size:_}')


if __name__ == "__main__":
    main(sys.argv[1:])
