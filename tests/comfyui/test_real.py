"""The nodes in a real ComfyUI, through its HTTP API: results against this package's own functions
and against ComfyUI's own node, progress, interruption and errors.

Run where ESRGAN_COMFYUI names a checkout of ComfyUI; ESRGAN_COMFYUI_PYTHON is the interpreter of
its environment (else this one).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import esrgan_ext
from benchmarks.comfyui import ComfyUI, Prompt, builtin_upscaling, save_for_comfyui
from tests.comfyui.test_contract import WORKFLOWS
from tests.evaluation.chromium import Chromium, find_chromium

pytestmark = [
    pytest.mark.skipif(
        "ESRGAN_COMFYUI" not in os.environ, reason="ESRGAN_COMFYUI names no checkout of ComfyUI"
    ),
    pytest.mark.timeout(900),
]

ROOT = Path(__file__).resolve().parents[2]

# Models that ComfyUI's own loader takes too: an RRDBNet and a compact network.
READ_BY_COMFYUI = ("realesrgan-x4plus-anime", "realesr-animevideov3-x2")


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    checkout = Path(os.environ["ESRGAN_COMFYUI"])
    python = os.environ.get("ESRGAN_COMFYUI_PYTHON", sys.executable)
    base = tmp_path_factory.mktemp("comfyui")
    (base / "models/upscale_models").mkdir(parents=True)
    for name in ("lite-esrgan-x4", *READ_BY_COMFYUI):
        save_for_comfyui(name, base / f"models/upscale_models/{name}.pth")
    (base / "models/upscale_models/damaged.pth").write_bytes(b"no checkpoint")
    (base / "input").mkdir()
    for name, picture in pictures().items():
        cv2.imwrite(str(base / "input" / name), picture)
    with ComfyUI(checkout, base, python) as running:
        yield running


def pictures() -> dict[str, np.ndarray]:
    """B, G, R or B, G, R, A, as OpenCV writes them."""
    photo = cv2.imread(str(ROOT / "LR" / "astronaut.jpg"))
    assert photo is not None
    small, other = photo[20:68, 40:104], photo[72:120, 40:104]
    alpha = np.add.outer(np.arange(48) * 2, np.arange(64) * 2).astype(np.uint8)
    large = cv2.resize(photo, (640, 640))
    return {
        "small.png": small,
        "other.png": other,
        "alpha.png": np.dstack([small, alpha]),
        "large.png": large,
    }


def rgb(name: str) -> np.ndarray:
    """As ComfyUI's LoadImage gives it: H, W, 3, float32 in [0, 1]."""
    return pictures()[name][..., 2::-1].astype(np.float32) / 255


def saved(image: np.ndarray) -> np.ndarray:
    """As ComfyUI's SaveImage writes it: cut off, not rounded."""
    return (image.clip(0, 1) * 255).astype(np.uint8)


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def upscaling(picture: str, model: str = "lite-psnr-x4", **inputs: Any) -> Prompt:
    settings = {"factor": 0.0, "denoise": -1.0, "consistent": False} | inputs
    return {
        "1": node("LoadImage", image=picture),
        "2": node("EsrganLoadModel", model=model),
        "3": node("EsrganUpscaleImage", model=["2", 0], image=["1", 0], **settings),
        "4": node("SaveImage", images=["3", 0], filename_prefix="x"),
    }


def test_the_four_nodes_are_there(comfyui: ComfyUI) -> None:
    known = comfyui.get("/object_info")
    ours = {name: entry for name, entry in known.items() if name.startswith("Esrgan")}
    assert {entry["display_name"] for entry in ours.values()} == {
        "Load ESRGAN model", "Upscale image (ESRGAN)", "Interpolate ESRGAN models",
        "Accelerate upscale model",
    }  # fmt: skip
    models = ours["EsrganLoadModel"]["input"]["required"]["model"][0]
    assert "realesrgan-x4plus" in models
    assert "lite-esrgan-x4.pth" in models


def test_upscale_image_is_upscale(comfyui: ComfyUI) -> None:
    ((found,),) = comfyui.run(upscaling("small.png")).values()
    expected = esrgan_ext.upscale(rgb("small.png"), "lite-psnr-x4", device="cpu", data_range="type")
    assert found.shape == (192, 256, 3)
    assert np.array_equal(found, saved(expected))


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("lite-esrgan-x4", {"factor": 2.5}),
        ("lite-psnr-x4", {"consistent": True}),
        ("lite-esrgan-x4.pth", {}),
    ],
)
def test_options_are_those_of_upscale(comfyui: ComfyUI, model: str, options: dict) -> None:
    ((found,),) = comfyui.run(upscaling("small.png", model, **options)).values()
    expected = esrgan_ext.upscale(
        rgb("small.png"),
        model.removesuffix(".pth"),
        outscale=options.get("factor"),
        consistent=options.get("consistent", False),
        device="cpu",
        data_range="type",
    )
    assert np.array_equal(found, saved(expected))


def test_a_mask_is_upscaled_as_alpha_and_a_batch_image_by_image(comfyui: ComfyUI) -> None:
    prompt = upscaling("alpha.png", mask=["1", 1])
    prompt["5"] = node("MaskToImage", mask=["3", 1])
    prompt["6"] = node("SaveImage", images=["5", 0], filename_prefix="mask")
    prompt["7"] = node("LoadImage", image="other.png")
    prompt["8"] = node("ImageBatch", image1=["1", 0], image2=["7", 0])
    prompt["3"]["inputs"]["image"] = ["8", 0]
    result = comfyui.run(prompt)
    up = esrgan_ext.Upscaler("lite-psnr-x4", device="cpu", data_range="type")
    for found, name in zip(result["4"], ("small.png", "other.png"), strict=True):
        assert np.array_equal(found, saved(up(rgb(name))))
    # LoadImage's mask is what is transparent.
    mask = 1 - pictures()["alpha.png"][..., 3].astype(np.float32) / 255
    expected = saved(up(mask))
    assert len(result["6"]) == 2
    for found in result["6"]:
        assert np.array_equal(found, np.dstack([expected] * 3))


def test_interpolated_models(comfyui: ComfyUI) -> None:
    prompt = upscaling("small.png")
    prompt["5"] = node("EsrganLoadModel", model="lite-esrgan-x4")
    prompt["6"] = node("EsrganInterpolateModels", first=["2", 0], second=["5", 0], alpha=0.3)
    prompt["3"]["inputs"]["model"] = ["6", 0]
    ((found,),) = comfyui.run(prompt).values()
    mixed = esrgan_ext.interpolate("lite-psnr-x4", "lite-esrgan-x4", 0.3)
    expected = esrgan_ext.upscale(rgb("small.png"), mixed, device="cpu", data_range="type")
    assert np.array_equal(found, saved(expected))


@pytest.mark.parametrize("model", READ_BY_COMFYUI)
def test_accelerate_gives_the_result_of_comfyuis_own_node(comfyui: ComfyUI, model: str) -> None:
    plain, fast = (
        comfyui.run(builtin_upscaling(f"{model}.pth", "other.png", accelerate))["5"][0]
        for accelerate in (False, True)
    )
    difference = np.abs(plain.astype(int) - fast)
    assert difference.max() <= 1  # what is cut off at 8 bits may lie on either side of a level
    assert (difference > 0).mean() < 1e-3
    assert "comes back unchanged" not in comfyui.log()


def listen(comfyui: ComfyUI, prompt: Prompt, interrupt: bool) -> tuple[list[dict], dict]:
    """The progress messages of the upscaling node and the outcome; with `interrupt` the stop
    button is pressed at the first of them."""
    from tornado.websocket import websocket_connect

    async def follow() -> tuple[list[dict], str]:
        socket = await websocket_connect(
            f"ws://{comfyui.address}/ws?clientId=tests", max_message_size=1 << 26
        )
        number, seen = comfyui.queue(prompt, "tests"), []
        while True:
            message = await asyncio.wait_for(socket.read_message(), 600)
            if not isinstance(message, str):
                continue  # a preview
            event = json.loads(message)
            data = event["data"]
            if event["type"] == "progress" and data["node"] == "3":
                if interrupt and not seen:
                    comfyui.post("/interrupt", {})
                seen.append(data)
            if data.get("prompt_id") == number and event["type"] in (
                "execution_success", "execution_error", "execution_interrupted"
            ):  # fmt: skip
                socket.close()
                return seen, number

    seen, number = asyncio.run(follow())
    return seen, comfyui.outcome(number)


def test_progress_reaches_the_whole(comfyui: ComfyUI) -> None:
    seen, outcome = listen(comfyui, upscaling("large.png"), interrupt=False)
    assert outcome["status"]["status_str"] == "success"
    values = [entry["value"] for entry in seen]
    assert len(values) > 2
    assert values == sorted(values)
    assert values[0] < values[-1] == seen[-1]["max"] == 640 * 640


def test_the_stop_button_ends_it_between_tiles(comfyui: ComfyUI) -> None:
    prompt = upscaling("large.png", "lite-esrgan-x4")
    seen, outcome = listen(comfyui, prompt, interrupt=True)
    assert outcome["status"]["messages"][-1][0] == "execution_interrupted"
    assert seen[-1]["value"] < seen[-1]["max"]
    # The next workflow runs.
    assert comfyui.run(upscaling("small.png", factor=1.5))


@pytest.mark.parametrize(
    ("change", "node_id", "message"),
    [
        ({"model": "damaged.pth"}, "2", "damaged.pth"),
        ({"denoise": 0.5}, "3", "has no other to mix with"),
    ],
)
def test_errors_are_shown_on_the_node(
    comfyui: ComfyUI, change: dict, node_id: str, message: str
) -> None:
    outcome = comfyui.outcome(comfyui.queue(upscaling("small.png", **change)))
    kind, details = outcome["status"]["messages"][-1]
    assert kind == "execution_error"
    assert details["node_id"] == node_id
    assert message in details["exception_message"]


def test_the_page_loads_the_workflows_and_they_run(comfyui: ComfyUI, tmp_path: Path) -> None:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium (Debian: apt-get install chromium)")
    for name in ("example.png", "small.png"):
        cv2.imwrite(str(comfyui.base / "input" / name), pictures()["small.png"])
    models = comfyui.base / "models/upscale_models"
    (models / "RealESRGAN_x4plus.pth").symlink_to(models / f"{READ_BY_COMFYUI[0]}.pth")
    assert sorted(comfyui.get("/workflow_templates")["comfyui_esrgan"]) == sorted(
        file.stem for file in WORKFLOWS
    )
    mixed = esrgan_ext.interpolate("lite-psnr-x4", "lite-esrgan-x4", 0.8)
    expected = {"Upscale": mixed, "Accelerate": READ_BY_COMFYUI[0]}
    with Chromium(program, tmp_path / "profile") as browser:
        browser.open(f"http://{comfyui.address}")
        browser.wait_for("!!(window.app && app.graph && app.extensionManager)")
        for file in WORKFLOWS:
            number = len(json.loads(file.read_text())["nodes"])
            browser.run("prompt_of = null; known = LiteGraph.registered_node_types; 0")
            browser.wait_for("Object.keys(known).filter(name => /^Esrgan/.test(name)).length === 4")
            browser.run(f"void app.loadGraphData({file.read_text()})")
            browser.wait_for(f"app.graph.nodes.length === {number}")
            browser.run("void app.graphToPrompt().then(found => { prompt_of = found.output })")
            browser.wait_for("prompt_of !== null")
            prompt = json.loads(browser.run("JSON.stringify(prompt_of)"))
            ((found,),) = comfyui.run(prompt).values()
            model = expected[file.stem.split()[0]]
            wanted = esrgan_ext.upscale(rgb("small.png"), model, device="cpu", data_range="type")
            assert np.abs(found.astype(int) - saved(wanted)).max() <= (model is not mixed)
