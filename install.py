"""Run by ComfyUI-Manager in a clone under ComfyUI's `custom_nodes`, with ComfyUI's Python: installs
the package there, and makes the clone a node pack.

A checkout elsewhere needs none of this: `pip install`, or `./try.sh`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent

# Not part of the repository: Python would take the folder of every checkout for a package.
PACK = '''"""The nodes of the installed package, for ComfyUI; written by install.py."""

from comfyui_esrgan import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
'''


def main() -> int:
    if ROOT.parent.name != "custom_nodes":
        print(f"{ROOT} is not in ComfyUI's custom_nodes: use pip install {ROOT}", file=sys.stderr)
        return 1
    # ComfyUI's torch satisfies the package, and stays as it is.
    done = subprocess.run([sys.executable, "-m", "pip", "install", str(ROOT)])
    if done.returncode:
        return done.returncode
    (ROOT / "__init__.py").write_text(PACK, encoding="utf-8")
    workflows = ROOT / "example_workflows"
    if not workflows.exists():
        workflows.symlink_to(ROOT / "comfyui_esrgan" / "example_workflows")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
