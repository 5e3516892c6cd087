"""ComfyUI's own upscaling node with and without "Accelerate upscale model": `python -m
benchmarks.comfyui CHECKOUT`.

Starts a real ComfyUI without a window and without a GPU in a folder of its own, queues workflows
through its HTTP API, one with and one without the node in turn, and prints the medians. `ComfyUI`
is what the tests and the pictures of the documentation start too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import torch

import esrgan_ext as esr
from comfyui_esrgan.__main__ import link

ROOT = Path(__file__).resolve().parent.parent

# `main.py` imports modules that lie beside it, and torchvision.
_START = """
import runpy, sys
from benchmarks.torchvision_operators import declare_missing
declare_missing()
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""

Prompt = dict[str, dict[str, Any]]
"""A workflow in API form: by a node's number its class and inputs."""


class ComfyUI:
    """A running ComfyUI with our nodes and no others. Use as a context manager.

    Parameters
    ----------
    checkout : Path
        ComfyUI's source, with `main.py`; nothing is written there.
    base : Path
        An empty folder for its models, pictures and settings.
    python : str
        The interpreter of ComfyUI's environment, in which esrgan_ext is installed too.
    seconds : float
        How long it may take to start.
    """

    def __init__(
        self, checkout: Path, base: Path, python: str = sys.executable, seconds: float = 300
    ) -> None:
        self.base = base
        for folder in ("custom_nodes", "input", "output", "models/upscale_models", "user"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        link(base)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self._log = base / "comfyui.log"
        arguments = [
            python, "-c", _START, str(checkout / "main.py"), "--cpu", "--listen", "127.0.0.1",
            "--port", str(port), "--base-directory", str(base), "--disable-auto-launch",
            "--disable-api-nodes", "--database-url", "sqlite:///:memory:", "--cache-lru", "20",
        ]  # fmt: skip
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                arguments,
                cwd=base,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + seconds
        while True:
            try:
                self.get("/queue")
                return
            except urllib.error.URLError:
                pass
            if self._process.poll() is not None or time.monotonic() > end:
                self.close()
                raise RuntimeError(f"ComfyUI did not start:\n{self.log()[-4000:]}")
            time.sleep(0.2)

    def __enter__(self) -> ComfyUI:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, body: object) -> Any:
        """Send JSON; an answer of 400 (a workflow that is refused) comes back as any other."""
        request = urllib.request.Request(
            f"http://{self.address}{path}", json.dumps(body).encode(), method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise
            text = error.read()
        return json.loads(text) if text else None

    def queue(self, prompt: Prompt, client: str = "") -> str:
        """The number under which the workflow is in the queue."""
        answer = self.post("/prompt", {"prompt": prompt, "client_id": client})
        if "prompt_id" not in answer:
            raise ValueError(f"ComfyUI refuses the workflow: {json.dumps(answer)}")
        return str(answer["prompt_id"])

    def outcome(self, number: str, seconds: float = 600) -> dict[str, Any]:
        """Wait for a workflow's end: its entry in ComfyUI's history."""
        end = time.monotonic() + seconds
        while not (history := self.get(f"/history/{number}")):
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"no result:\n{self.log()[-4000:]}")
            time.sleep(0.02)
        return dict(history[number])

    def run(self, prompt: Prompt) -> dict[str, list[np.ndarray]]:
        """The images that each saving node wrote, H, W, C in RGB(A), uint8.

        Raises
        ------
        RuntimeError
            The workflow failed; with its node's message.
        """
        outcome = self.outcome(self.queue(prompt))
        if outcome["status"]["status_str"] != "success":
            raise RuntimeError(json.dumps(outcome["status"]["messages"])[:2000])
        return {
            node: [self.picture(entry) for entry in output["images"]]
            for node, output in outcome["outputs"].items()
            if "images" in output
        }

    def picture(self, entry: dict[str, str]) -> np.ndarray:
        """The image of one entry of a node's output."""
        folder = self.base / entry["type"] / entry["subfolder"]
        image = cv2.imread(str(folder / entry["filename"]), cv2.IMREAD_UNCHANGED)
        assert image is not None
        return cv2.cvtColor(
            image, cv2.COLOR_BGR2RGB if image.shape[-1] == 3 else cv2.COLOR_BGRA2RGBA
        )

    def seconds(self, prompt: Prompt) -> float:
        """How long ComfyUI itself says that a workflow took."""
        outcome = self.outcome(self.queue(prompt))
        times = {name: entry["timestamp"] for name, entry in outcome["status"]["messages"]}
        return (times["execution_success"] - times["execution_start"]) / 1000


def builtin_upscaling(model: str, picture: str, accelerate: bool) -> Prompt:
    """ComfyUI's own two nodes, with our one between them or without."""
    prompt: Prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": picture}},
        "2": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": model}},
        "4": {
            "class_type": "ImageUpscaleWithModel",
            "inputs": {"upscale_model": ["2", 0], "image": ["1", 0]},
        },
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}},
    }
    if accelerate:
        prompt["3"] = {"class_type": "EsrganAccelerateModel", "inputs": {"upscale_model": ["2", 0]}}
        prompt["4"]["inputs"]["upscale_model"] = ["3", 0]
    return prompt


def save_for_comfyui(model: str, file: Path) -> None:
    """A catalogue model as a checkpoint that ComfyUI's own loader reads."""
    torch.save({"params_ema": esr.load_model(model).state_dict()}, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="ComfyUI's source")
    parser.add_argument("--python", default=sys.executable, help="of ComfyUI's environment")
    parser.add_argument("--model", default="realesrgan-x4plus-anime")
    parser.add_argument("--side", type=int, default=256, help="input pixels")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp())
    try:
        with ComfyUI(options.checkout, base, options.python) as comfyui:
            save_for_comfyui(options.model, base / "models/upscale_models/model.pth")
            photo = cv2.imread(str(ROOT / "LR" / "astronaut.jpg"))
            assert photo is not None
            photo = cv2.resize(photo, (options.side, options.side), interpolation=cv2.INTER_AREA)
            taken: dict[bool, list[float]] = {False: [], True: []}
            for number in range(options.rounds + 1):
                for accelerate, seconds in taken.items():
                    # One changed value, or ComfyUI hands out the last result.
                    photo[0, 0, 0] = number
                    cv2.imwrite(str(base / "input" / f"{accelerate}.png"), photo)
                    prompt = builtin_upscaling("model.pth", f"{accelerate}.png", accelerate)
                    seconds.append(comfyui.seconds(prompt))
                    print(f"accelerate={accelerate}: {seconds[-1]:.2f} s", flush=True)
        plain, fast = (statistics.median(seconds[1:]) for seconds in taken.values())
        ratios = [a / b for a, b in zip(taken[False][1:], taken[True][1:], strict=True)]
        print(
            f"{options.side} x {options.side}, {options.model}: {plain:.2f} s without, "
            f"{fast:.2f} s with; {statistics.median(ratios):.2f} times as fast "
            f"({min(ratios):.2f} to {max(ratios):.2f}, {options.rounds} rounds in turn)"
        )
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
