"""How good a result is: metrics against the original, over folders and models.

The public names load on first use, so that help texts need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esrgan_ext.evaluation.benchmark import evaluate
    from esrgan_ext.evaluation.results import Evaluation

__all__ = ["Evaluation", "evaluate"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from esrgan_ext.evaluation import benchmark  # which knows both

    return getattr(benchmark, name)
