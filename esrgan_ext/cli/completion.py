"""Values that a shell offers for Tab; where there are none it offers files.

Each answer is a process of its own, which a person waits for: what would import torch or OpenCV to
find a few words is written down here, and a test compares.
"""

from __future__ import annotations

from collections.abc import Callable

Values = Callable[[str], list[tuple[str, str]]]
"""From what is typed to the values that begin with it, each with a help text."""

FORMATS = (
    "png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp", "avif", "jp2", "jxl", "hdr", "exr", "ppm",
    "pfm",
)  # fmt: skip
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
DEVICES = ("auto", "cpu", "cuda", "cuda:0", "mps")
SEVERAL_DEVICES = (*DEVICES, "all")


def words(*known: str) -> Values:
    """Always the same words."""

    def values(incomplete: str) -> list[tuple[str, str]]:
        return [(word, "") for word in known if word.startswith(incomplete)]

    return values


def models(*besides: str) -> Values:
    """Names of models, and words that stand for more."""

    def values(incomplete: str) -> list[tuple[str, str]]:
        from esrgan_ext.weights import list_models

        named = [(model.name, model.purpose) for model in list_models()]
        found = [*((word, "") for word in besides), *named]
        return [each for each in found if each[0].startswith(incomplete)]

    return values


def recipes(incomplete: str) -> list[tuple[str, str]]:
    """Names of training recipes."""
    from esrgan_ext.training.recipe import load_recipe, recipe_names

    names = [name for name in recipe_names() if name.startswith(incomplete)]
    return [(name, load_recipe(name).summary) for name in names]


# zsh loads a function from its file at the first Tab and calls it. Typer's file only defines and
# registers another one: that first Tab of every session would do nothing.
_AT_THE_FIRST_TAB = """
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  %(complete_func)s "$@"
fi
"""


def answer_the_first_tab() -> None:
    """Have the script for zsh answer when it is loaded, too."""
    from typer import _completion_shared

    scripts = _completion_shared._completion_scripts
    if _AT_THE_FIRST_TAB not in scripts["zsh"]:
        scripts["zsh"] += _AT_THE_FIRST_TAB
