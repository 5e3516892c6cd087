"""The user's preferences, declared in the manifest's `configurations`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DISTRIBUTION = "esrgan-ext"


@dataclass(frozen=True)
class Preferences:
    """What the user set in napari's Preferences, or the manifest's defaults.

    Attributes
    ----------
    model : str
        Chosen at first.
    device : str
    memory_budget : float
        Gigabytes; larger results go to a zarr store.
    store_folder : str
        Where such stores are made; empty for the user's cache folder.
    fill_in_seconds : float
        Runs estimated to take longer are shown as they grow.
    sweep_steps : int
    """

    model: str = "realesrgan-x4plus"
    device: str = "auto"
    memory_budget: float = 4.0
    store_folder: str = ""
    fill_in_seconds: float = 10.0
    sweep_steps: int = 21

    @property
    def budget_bytes(self) -> float:
        return self.memory_budget * 1e9

    @property
    def folder(self) -> Path | None:
        text = self.store_folder.strip()
        return Path(text).expanduser() if text else None


def preferences() -> Preferences:
    """Read them; the defaults where the plugin is not registered (a script, a test)."""
    from napari.settings import get_plugin_settings

    try:
        stored = get_plugin_settings(DISTRIBUTION).upscaling
    except (KeyError, AttributeError):
        return Preferences()
    defaults = Preferences()
    values = {
        name: getattr(stored, name, getattr(defaults, name))
        for name in Preferences.__dataclass_fields__
    }
    return Preferences(**values)
