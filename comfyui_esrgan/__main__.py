"""`python -m comfyui_esrgan FOLDER` puts the nodes into ComfyUI: a link in its `custom_nodes`."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

PACK = Path(__file__).resolve().parent


def link(comfyui: Path) -> str:
    """Link this folder into ComfyUI's `custom_nodes`.

    Parameters
    ----------
    comfyui : Path
        ComfyUI's folder, or the base directory that it is started with.

    Returns
    -------
    str
        Sentence about the link that was made, to be printed.

    Raises
    ------
    FileNotFoundError
        The folder has no `custom_nodes`.
    FileExistsError
        Something else stands in the link's place.
    """
    nodes = comfyui / "custom_nodes"
    if not nodes.is_dir():
        raise FileNotFoundError(f"{comfyui} has no folder custom_nodes: is it ComfyUI's?")
    place = nodes / PACK.name
    if place.resolve() == PACK:
        return f"{place} is there already"
    if place.is_symlink():  # of an installation that moved
        place.unlink()
    elif place.exists():
        raise FileExistsError(f"{place} is in the way: remove it first")
    place.symlink_to(PACK, target_is_directory=True)
    return f"{place} -> {PACK}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m comfyui_esrgan", description="Link the ESRGAN nodes into ComfyUI."
    )
    parser.add_argument("folder", type=Path, help="ComfyUI's folder, the one with custom_nodes")
    comfyui = parser.parse_args(arguments).folder
    try:
        print(link(comfyui))
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    if importlib.util.find_spec("comfyui_frontend_package") is None:
        print(
            f"{sys.executable} lacks ComfyUI's packages: install esrgan-ext with the Python that "
            "runs ComfyUI, or the nodes will not load there",
            file=sys.stderr,
        )
    print("Restart ComfyUI. The nodes are under image/upscaling/ESRGAN, workflows under Templates.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
