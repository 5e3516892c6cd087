"""Makes the pictures of docs/hosts.md from a real ComfyUI: `python scripts/comfyui_screenshots.py
CHECKOUT [folder] [--python PROGRAM]`.

Opens the workflows that come with the nodes in ComfyUI's own page, queues them there, and takes a
picture of the graph with its result. `--rewrite` writes the workflows anew as the page saves them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import cv2

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.comfyui import ComfyUI, save_for_comfyui  # noqa: E402
from comfyui_esrgan.__main__ import PACK  # noqa: E402
from tests.evaluation.chromium import Chromium, find_chromium  # noqa: E402

WORKFLOWS = PACK / "example_workflows"
SETTINGS = {
    "Comfy.TutorialCompleted": True,  # no tour
    "Comfy.Minimap.Visible": False,
    "Comfy.Queue.QPOV2": False,
}


def prepare(base: Path) -> None:
    """The pictures and the model that the workflows name."""
    for folder in ("input", "models/upscale_models", "user/default"):
        (base / folder).mkdir(parents=True)
    (base / "user/default/comfy.settings.json").write_text(json.dumps(SETTINGS))
    photo = cv2.imread(str(ROOT / "LR" / "astronaut.jpg"))
    assert photo is not None
    cv2.imwrite(str(base / "input/example.png"), photo)
    save_for_comfyui("realesrgan-x4plus", base / "models/upscale_models/RealESRGAN_x4plus.pth")


def take(browser: Chromium, workflow: Path, picture: Path, rewrite: bool) -> None:
    text = workflow.read_text()
    browser.run(f"void app.loadGraphData({text}, true, true, {json.dumps(workflow.stem)})")
    browser.wait_for(f"app.graph.nodes.length === {len(json.loads(text)['nodes'])}")
    missing = browser.run("app.graph.nodes.filter(n => n.has_errors).map(n => n.type).join()")
    assert not missing, f"the page does not know {missing}"
    if rewrite:
        graph = json.loads(browser.run("JSON.stringify(app.graph.serialize())"))
        workflow.write_text(json.dumps(graph, indent=1) + "\n")
    browser.run(
        "window.done = false; app.api.addEventListener('execution_success', () => done = true)"
    )
    browser.run("void app.queuePrompt(0)")
    browser.wait_for("done")
    browser.run("void app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    time.sleep(3)  # the view glides there, and the result is fetched
    picture.write_bytes(browser.screenshot())
    print(picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "docs" / "images")
    parser.add_argument("--python", default=sys.executable, help="of ComfyUI's environment")
    parser.add_argument("--rewrite", action="store_true")
    options = parser.parse_args()
    program = find_chromium()
    assert program is not None, "no Chromium (Debian: apt-get install chromium)"
    with tempfile.TemporaryDirectory() as folder:
        base, profile = Path(folder) / "comfyui", Path(folder) / "profile"
        prepare(base)
        with (
            ComfyUI(options.checkout, base, options.python) as comfyui,
            Chromium(program, profile, seconds=300) as browser,
        ):
            browser.screen(1366, 768)
            browser.open(f"http://{comfyui.address}")
            browser.wait_for("!!(window.app && app.graph && app.extensionManager)")
            time.sleep(3)
            for workflow in sorted(WORKFLOWS.glob("*.json")):
                name = "comfyui-" + workflow.stem.split()[0].lower() + ".png"
                take(browser, workflow, options.folder / name, options.rewrite)


if __name__ == "__main__":
    main()
