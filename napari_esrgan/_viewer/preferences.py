"""The user's preferences, declared in the manifest's `configurations`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from esrgan_ext.weights.catalogue import FAITHFUL

DISTRIBUTION = "esrgan-ext"
AUTO = "auto"


@dataclass(frozen=True)
class Preferences:
    """The user's settings in napari's Preferences, or the manifest's defaults.

    Attributes
    ----------
    model : str
        Chosen at first: a name or a path, or 'auto' for the one that is true to the data. The
        last one that the user has picked.
    device : str
    memory_budget : float
        Gigabytes; larger results go to a zarr store.
    store_folder : str
        Where such stores are made; empty for the user's cache folder.
    fill_in_seconds : float
        Runs estimated to take longer are shown as they grow.
    sweep_steps : int
    """

    model: str = AUTO
    device: str = "auto"
    memory_budget: float = 4.0
    store_folder: str = ""
    fill_in_seconds: float = 10.0
    sweep_steps: int = 21

    @property
    def first_model(self) -> str:
        """The model that a form begins with."""
        return FAITHFUL if self.model.strip() in ("", AUTO) else self.model

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


def remember_model(model: str) -> None:
    """Keep the user's choice for the next time; nowhere to keep it in a script or a test."""
    from napari.settings import get_plugin_settings

    with suppress(KeyError, AttributeError):
        get_plugin_settings(DISTRIBUTION).upscaling.model = AUTO if model == FAITHFUL else model
