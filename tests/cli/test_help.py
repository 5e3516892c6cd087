"""Help pages: every command has examples that parse, and says things in words."""

from __future__ import annotations

import re
import shlex

import pytest
import typer

from esrgan_ext.cli import app
from tests.conftest import ROOT as REPOSITORY

ROOT = typer.main.get_command(app)
COMMANDS = sorted(ROOT.commands)  # type: ignore[attr-defined]


def examples(text: str) -> list[list[str]]:
    """The words after `esrgan` of each command line of a page."""
    found = []
    for line in text.splitlines():
        words = shlex.split(line.partition(" #")[0], comments=True)
        while "|" in words and "esrgan" not in words[: words.index("|")]:
            words = words[words.index("|") + 1 :]
        words = words[: next((k for k, word in enumerate(words) if word in {*"<>|&"}), None)]
        if words[:1] == ["esrgan"]:
            found.append(words[1:])
        elif "esrgan_ext.cli" in words:
            found.append(words[words.index("esrgan_ext.cli") + 1 :])
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_parse(run, name: str) -> None:
    command = ROOT.commands[name]  # type: ignore[attr-defined]
    found = examples(command.epilog)
    assert found
    for words in found:
        assert words[0] == name
        command.make_context(name, list(words[1:]))
    page = run(name, "--help").output
    for line in command.epilog.strip().splitlines():
        assert f"\n  {line}".rstrip() in page  # whole: a wrapped command cannot be copied


def test_the_examples_of_the_front_page_parse(run) -> None:
    found = examples(run("--help").output)
    assert len(found) == 3
    for words in found[:2]:
        ROOT.commands[words[0]].make_context(words[0], words[1:])  # type: ignore[attr-defined]


PAGES = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_in_the_documentation_parse(page) -> None:
    """Options that are renamed or dropped are so everywhere."""
    blocks = re.findall(r"^```(?:sh|bash|shell)\n(.*?)^```", page.read_text(), re.M | re.S)
    for words in examples("\n".join(blocks).replace("\\\n", " ")):
        if words[0] in COMMANDS and "..." not in words:
            ROOT.commands[words[0]].make_context(words[0], words[1:])  # type: ignore[attr-defined]
        else:
            assert words[0].startswith("--"), words


def test_the_parser_of_examples_sees_pipes_and_mistakes() -> None:
    assert examples("  cat a.png | esrgan upscale - > b.png  # text") == [["upscale", "-"]]
    with pytest.raises(Exception, match="No such option"):
        ROOT.commands["info"].make_context("info", ["--no"])  # type: ignore[attr-defined]


def test_summaries_fit_and_differ(run) -> None:
    page = run("--help").output
    listed = re.findall(r"^  (\w+) +(\S.*)$", page.partition("Commands:")[2], re.MULTILINE)
    summaries = dict(each for each in listed if each[0] in COMMANDS)
    assert sorted(summaries) == COMMANDS
    assert all(text.endswith(".") and not text.endswith("...") for text in summaries.values())
    assert len(set(summaries.values())) == len(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_values_are_named_not_typed(run, name: str) -> None:
    """No `<path>` or `<list[Path]>`: a metavar says what the value is."""
    page = run(name, "--help").output
    assert not re.search(r"<\w+(\[\w+\])?>", page)
    assert not re.search(r"\b(TEXT|INTEGER|FLOAT|PATH)\.\.\.", page)
    usage = page.partition("\n")[0]
    assert "{" not in usage
    assert "......" not in usage


def test_options_stand_in_panels(run) -> None:
    page = run("upscale", "--help").output
    sections = dict(re.findall(r"^(\S[^\n]*):\n((?:  .*\n|\n(?=  ))+)", page, re.MULTILINE))
    stores = next(text for title, text in sections.items() if title.startswith("OME-Zarr"))
    for option in ("--scheduler", "--memory-limit", "--region", "--ome-zarr"):
        assert option in stores
    assert "--crf" in sections["Videos and animations"]
    assert "--device" in sections["Speed and memory"]
    assert "--overwrite" in sections["Files"]
    assert "--model" in sections["Model and result"]
    assert list(sections) == [
        "Arguments", "Options", "Model and result", "Files", "Speed and memory",
        next(title for title in sections if title.startswith("OME-Zarr")),
        "Videos and animations", "Examples",
    ]  # fmt: skip
