"""Every public function and class shows an example in its docstring, and it runs as printed."""

from __future__ import annotations

import doctest
import importlib
import inspect
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

import esrgan_ext
from esrgan_ext.errors import EsrganError
from tests.conftest import ROOT
from tests.docs.public import public_objects

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


def shows_an_example(value: object) -> bool:
    """Errors need none: one of their base class's shows how they are caught."""
    if inspect.isclass(value) and issubclass(value, EsrganError):
        return value is not EsrganError or ">>> " in (value.__doc__ or "")
    return ">>> " in (inspect.getdoc(value) or "")


@pytest.fixture
def sample_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the examples speak of, in the current folder."""
    photo = cv2.imread(str(ROOT / "LR" / "astronaut.jpg"))[:16, 40:64]
    (tmp_path / "photos" / "HR").mkdir(parents=True)
    for name in ("photo.png", "photos/a.png", "photos/b.png"):
        cv2.imwrite(str(tmp_path / name), photo)
    hr = cv2.imread(str(ROOT / "LR" / "astronaut.jpg"))[:96, 20:116]
    cv2.imwrite(str(tmp_path / "photos" / "HR" / "a.png"), hr)
    plane = np.arange(40 * 48, dtype=np.uint16).reshape(40, 48)
    tifffile.imwrite(tmp_path / "plane.ome.tif", plane, tile=(16, 16))
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


def write_clip(path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for i in range(3):
            frame = np.full((24, 32, 3), 40 * i, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
