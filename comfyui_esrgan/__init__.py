"""ComfyUI's node pack: link or copy this folder into ComfyUI's `custom_nodes`.

ComfyUI reads the two tables; they load without ComfyUI too, whose modules are imported when a node
runs.
"""

from __future__ import annotations

from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
