"""Advice on a model, in a line for the form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from esrgan_ext.weights.catalogue import CATALOGUE

if TYPE_CHECKING:
    from esrgan_ext.weights.info import Role

# The groups of the list of models, in their order; None are the user's own files.
GROUPS: tuple[tuple[Role | None, str], ...] = (
    ("faithful", "True to the data"),
    ("photo", "Photos: draws detail"),
    ("drawing", "Drawings: draws detail"),
    (None, "Your files"),
)


@dataclass(frozen=True)
class Advice:
    """A line about the choice of a model.

    Attributes
    ----------
    text : str
    warning : bool
        Whether it is one.
    """

    text: str
    warning: bool


def role_of(model: str) -> Role | None:
    """A named model's role; None for a file."""
    entry = CATALOGUE.get(model)
    return None if entry is None else entry.role


def advice(models: tuple[str, ...], own_choice: bool) -> Advice:
    """Warnings before these models are used, one alone or several mixed.

    Parameters
    ----------
    models : tuple of str
        Names or paths.
    own_choice : bool
        Whether the user has picked them.
    """
    roles = {role_of(model) for model in models}
    if roles & {"photo", "drawing"}:
        return Advice(
            "Draws detail that was never measured: filaments and texture may be invented. "
            "Do not count or measure on the result.",
            warning=True,
        )
    if None in roles:
        return Advice(
            "Nobody has said what this model was trained for: check the result with "
            "“Consistency” before you measure on it.",
            warning=True,
        )
    why = "" if own_choice else "Chosen because "
    text = "it is true to the data: trained for the smallest error, it draws no texture of its own."
    return Advice(f"{why}{text}" if why else f"I{text[1:]}", warning=False)
