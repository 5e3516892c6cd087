"""Every `esrgan` command in the documentation's sentences exists, with every option it is given.

Those in blocks of code are parsed by `tests.cli.test_help`.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from esrgan_ext.cli import app
from tests.conftest import ROOT
from tests.docs.test_site import PAGES


def commands(page: Path) -> list[str]:
    """Commands between backticks."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    spans = [span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", text)]
    return [span for span in spans if span.startswith("esrgan ")]


def unknown(command: str) -> list[str]:
    """The words of a command that the command line does not know."""
    group: Any = typer.main.get_command(app)
    words = shlex.split(command, comments=True)[1:]
    if words[0].startswith("-") or words[0].isupper():  # COMMAND stands for any
        found = group
    elif (found := group.commands.get(words[0])) is None:
        return words[:1]
    known = {o for p in found.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    return [w for w in words if re.match(r"--?[a-z]", w) and w.partition("=")[0] not in known]


@pytest.mark.parametrize(
    "page", [p for p in PAGES if commands(p)], ids=lambda p: str(p.relative_to(ROOT))
)
def test_commands_of_a_page_exist(page: Path) -> None:
    assert {command: unknown(command) for command in commands(page) if unknown(command)} == {}


def test_a_wrong_command_would_be_found() -> None:
    assert unknown("esrgan upscal a.png") == ["upscal"]
    assert unknown("esrgan upscale a.png --outscal 3 -m x  # one") == ["--outscal"]
    assert len(commands(ROOT / "README.md")) >= 2
