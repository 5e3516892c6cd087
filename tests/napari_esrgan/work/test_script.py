"""A script computes the same array as the run it was made from."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esrgan_ext.inference.tiles import Rect
from napari_esrgan._work.axes import Axes
from napari_esrgan._work.ranges import RangeChoice
from napari_esrgan._work.request import Mix
from napari_esrgan._work.script import request_script, script
from napari_esrgan._work.upscale import run_upscale
from tests.napari_esrgan.conftest import never, words

DATA = RangeChoice("data")
CASES = {
    "gray": ((12, 14), False, "y x", {}),
    "series": ((3, 12, 14), False, "plane y x", {}),
    "channels": ((2, 12, 14), False, "channel y x", {}),
    "series of channels, region": (
        (2, 3, 22, 24),
        False,
        "plane channel y x",
        {"region": Rect(3, 20, 2, 19)},
    ),
    "turned": ((14, 3, 12), False, "x plane y", {"region": Rect(1, 9, 2, 12)}),
    "rgb": ((12, 14, 3), True, "y x", {"value_range": RangeChoice("type")}),
    "rgb series, region": ((2, 12, 14, 3), True, "plane y x", {"region": Rect(0, 8, 5, 14)}),
    "own range": ((12, 14), False, "y x", {"value_range": RangeChoice("own", (200.0, 900.0))}),
    "follows the data": ((3, 2, 22, 24), False, "plane channel y x", {"value_range": DATA}),
    "follows the data, turned": ((24, 3, 22), False, "x plane y", {"value_range": DATA}),
    "follows the data, rgb": ((2, 12, 14, 3), True, "plane y x", {"value_range": DATA}),
    "by type, wide": ((12, 14), False, "y x", {"value_range": RangeChoice("type")}),
    "consistent": ((12, 14), False, "y x", {"consistent": True}),
    "outscale": ((12, 14), False, "y x", {"outscale": 1.5}),
    "constant": ((12, 14), False, "y x", {}),
    "one plane": ((3, 12, 14), False, "plane y x", {"only_shown": True, "shown": (2,)}),
    "one plane of channels": (
        (3, 2, 12, 14),
        False,
        "plane channel y x",
        {"only_shown": True, "shown": (2, 1)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_script_gives_the_same_array(make_request, name):
    shape, rgb, roles, changes = CASES[name]
    data = words(shape) if name != "constant" else np.full(shape, 7, np.uint16)
    request = make_request(data, axes=Axes(tuple(roles.split()), rgb), **changes)
    if "turned" in name:
        request = replace(request, data=(data := data.astype(np.float32)))
    outcome = run_upscale(request, lambda _: None, never)
    for text in (script(outcome.provenance), request_script(request, "cells")):
        space: dict = {"__name__": "script"}
        exec(compile(text, name, "exec"), space)
        np.testing.assert_array_equal(space["upscale"](data), outcome.result.levels)


def test_the_script_of_a_mix(make_request, model_file, other_model_file):
    data = words((12, 14))
    request = make_request(data, model=Mix(model_file, other_model_file, 0.3))
    outcome = run_upscale(request, lambda _: None, never)
    space: dict = {"__name__": "script"}
    exec(compile(script(outcome.provenance), "mix", "exec"), space)
    np.testing.assert_array_equal(space["upscale"](data), outcome.result.levels)


def test_the_script_runs_by_itself(make_request, tmp_path):
    data = words((12, 14))
    outcome = run_upscale(make_request(data), lambda _: None, never)
    (tmp_path / "script.py").write_text(script(outcome.provenance))
    np.save(tmp_path / "in.npy", data)
    command = [sys.executable, "script.py", "in.npy", "out.npy"]
    subprocess.run(command, cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), outcome.result.levels)


# Names that have been code somewhere: quotes, line ends of every kind, format fields, escapes.
FRAGMENTS = [
    '"""', "'''", "'", '"', "\\", "\n", "\r", "\u2028", "\x00", "{0}", "{source}", "#",
    '"""\nimport os; os.system("x")\n"""', "'); __import__('os').system('x')  #",
    "\u202e", "\ud800",
]  # fmt: skip
NAMES = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=8))).map("".join)


class _WithoutLiterals(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant(type(node.value).__name__)


def shape_of(text: str) -> str:
    """A script's syntax tree, of its literals only the types."""
    return ast.dump(_WithoutLiterals().visit(ast.parse(text)))


def provenance_of(source: str, model: dict, **changes) -> dict:
    parameters = {
        "outscale": 1.5,
        "axes": ["plane", "channel", "y", "x"],
        "rgb": False,
        "region": [0, 8, 2, 9],
        "plane": None,
        "range": "own",
        "range_values": [1.0, 2.0],
        "device": "cpu",
        "precision": "auto",
        "tile": "auto",
    }
    return {"source": source, "model": model, "parameters": {**parameters, **changes}}


@given(source=NAMES, key=NAMES, other=NAMES, device=NAMES, mixed=st.booleans())
def test_names_are_literals_and_nothing_else(source, key, other, device, mixed):
    def made(source, key, other, device):
        mix = [key, other, 0.5] if mixed else None
        model = {"key": None if mixed else key, "mix": mix}
        return script(provenance_of(source, model, device=device, precision=device))

    text = made(source, key, other, device)
    assert shape_of(text) == shape_of(made("cells", "a", "b", "cpu"))
    literals = {n.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant)}
    assert {source, key, device} <= literals  # nothing is lost on the way
    compile(text, "script", "exec")


# What a string holds that ends a line, a literal or a reader's understanding: control characters
# (C0, DEL, C1), line ends, quotes, escapes, invisible and bidirectional signs, lone surrogates.
HARMFUL = [
    *map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u2028", "\u2029", "\ufeff",
    *"\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    "\ud800", "\udfff", "'", '"', "\\", '"""', "'\\", "{", "}", "%s",
]  # fmt: skip


@pytest.mark.parametrize("text", HARMFUL, ids=ascii)
def test_no_character_leaves_its_literal(text):
    name = f"a{text}b{text}"
    made = script(provenance_of(name, {"key": name, "mix": None}, device=name, precision=name))
    assert shape_of(made) == shape_of(script(provenance_of("cells", {"key": "a", "mix": None})))
    # It can be stored, and shows what it does: nothing invisible, nothing that turns the reading.
    made.encode()
    assert all(character == "\n" or character.isprintable() for character in made)
    literals = {n.value for n in ast.walk(ast.parse(made)) if isinstance(n, ast.Constant)}
    assert name in literals
    # Where a word of a known list belongs, it is refused.
    for changes in ({"axes": [name, "y", "x"]}, {"range": name}, {"region": [name, 1, 0, 1]}):
        with pytest.raises(ValueError, match="run it again"):
            script(provenance_of("cells", {"key": "a", "mix": None}, **changes))


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", float("nan"), float("inf")])
def test_numbers_that_have_no_literal_are_refused(number):
    model = {"key": None, "mix": ["a", "b", number]}
    with pytest.raises(ValueError, match="run it again"):
        script(provenance_of("cells", model))
    for changes in ({"outscale": number}, {"range_values": [0.0, number]}):
        with pytest.raises(ValueError, match="run it again"):
            script(provenance_of("cells", {"key": "a", "mix": None}, **changes))


@given(
    field=st.sampled_from(
        ["outscale", "axes", "region", "plane", "range", "range_values", "tile", "rgb"]
    ),
    value=st.one_of(
        NAMES,
        st.sampled_from(["nan", "inf"]),
        st.lists(
            st.one_of(NAMES, st.sampled_from(["y", "x", "nan", "\x00"])), min_size=1, max_size=4
        ),
        st.dictionaries(NAMES, NAMES),
    ),
)
def test_metadata_of_a_stranger_is_no_code(field, value):
    model = {"key": "a", "mix": None}
    try:
        text = script(provenance_of("cells", model, **{field: value}))
    except ValueError:
        return
    names = {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)}
    assert all(character == "\n" or character.isprintable() for character in text)
    plain = script(provenance_of("cells", model))
    stack = script(provenance_of("cells", model, axes=["plane", "y", "x"]))
    minmax = script(provenance_of("cells", model, range="minmax"))
    known = {
        n.id
        for known in (plain, stack, minmax)
        for n in ast.walk(ast.parse(known))
        if isinstance(n, ast.Name)
    }
    assert names <= known
