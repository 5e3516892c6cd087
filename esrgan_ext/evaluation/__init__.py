"""How good a result is: metrics against the original, over folders and models.

The public names load on first use, so that help texts need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from esrgan_ext.lazy import lazy_names

if TYPE_CHECKING:
    from esrgan_ext.evaluation.benchmark import evaluate
    from esrgan_ext.evaluation.results import Evaluation

__all__ = ["Evaluation", "evaluate"]

__getattr__ = lazy_names(
    __name__,
    {
        "Evaluation": "esrgan_ext.evaluation.results",
        "evaluate": "esrgan_ext.evaluation.benchmark",
    },
)
