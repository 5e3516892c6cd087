"""Every public function and class shows an example in its docstring, and it runs as printed."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

import esrgan_ext
from esrgan_ext.errors import EsrganError
from tests.docs.public import public_objects
from tests.docs.sample_files import write_clip, write_sample_files

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


def modules_with_examples() -> list[str]:
    folder = Path(esrgan_ext.__file__).parent
    return [
        ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(folder.rglob("*.py"))
        if ">>>" in path.read_text()
    ]


def test_every_public_function_and_class_has_an_example() -> None:
    objects = public_objects()
    assert len(objects) > 30
    assert [name for name, value in objects.items() if not shows_an_example(value)] == []


def public_methods() -> dict[str, object]:
    """Methods of public classes, each in the class that says what it does: a network's own way of
    doing what `SRNetwork` describes needs no text of its own."""
    found: dict[str, object] = {}
    for name, value in public_objects().items():
        if not inspect.isclass(value) or issubclass(value, EsrganError):
            continue
        for key, member in vars(value).items():
            if key.startswith("_") and key != "__call__":
                continue
            function = getattr(member, "__func__", member)
            ours = [c for c in value.__mro__[1:] if c.__module__.startswith("esrgan_ext")]
            if inspect.isfunction(function) and not any(hasattr(base, key) for base in ours):
                found[f"{name}.{key}"] = function
    return found


def test_every_public_method_has_its_whole_docstring() -> None:
    """Parameters, returns and an example, each where there is something to say."""
    methods = public_methods()
    assert {"esrgan_ext.Upscaler.plan", "esrgan_ext.models.SRNetwork.macs"} <= methods.keys()
    assert [name for name, method in methods.items() if missing_sections(method)] == []


def missing_sections(method: Any) -> list[str]:
    signature = inspect.signature(method)
    wanted = [">>> "]
    if len(signature.parameters) > 1:
        wanted.append("Parameters\n----------")
    if signature.return_annotation != "None":
        wanted.append("Yields\n" if "Iterator" in signature.return_annotation else "Returns\n")
    text = inspect.getdoc(method) or ""
    return [section for section in wanted if section not in text]


def test_every_public_property_says_what_it_is() -> None:
    silent = [
        f"{name}.{key}"
        for name, value in public_objects().items()
        if inspect.isclass(value)
        for key, member in vars(value).items()
        if isinstance(member, property)
        and not key.startswith("_")
        and not inspect.getdoc(getattr(value, key))
    ]
    assert silent == []


def shows_an_example(value: object) -> bool:
    """Errors need none: one of their base class's shows how they are caught."""
    if inspect.isclass(value) and issubclass(value, EsrganError):
        return value is not EsrganError or ">>> " in (value.__doc__ or "")
    return ">>> " in (inspect.getdoc(value) or "")


@pytest.fixture
def sample_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_sample_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ESRGAN_MODEL_DIR", raising=False)
    return tmp_path


@pytest.mark.parametrize("module", modules_with_examples())
def test_the_examples_of_a_module_give_what_they_print(module: str, sample_files: Path) -> None:
    source = importlib.import_module(module)
    if "upscale_video" in source.__dict__:
        write_clip(sample_files / "clip.mp4")
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    said: list[str] = []
    for test in finder.find(source, module):
        runner.run(test, out=said.append)
    assert runner.tries > 0
    assert runner.failures == 0, "".join(said)
