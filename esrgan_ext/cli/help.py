"""Help pages in plain text: options in panels, examples at the end.

Rich draws panels too, and takes twice as long to appear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from typing import Any

# The titles of panels that several commands have; the others stand beside their options.
FILES = "Files"
MODEL = "Model and result"
SPEED = "Speed and memory"

CONTEXT = {"max_content_width": 100, "help_option_names": ["-h", "--help"]}


class _Examples:
    """Keeps the lines of the epilog, which are examples: a comment, then a command that must not
    be wrapped."""

    epilog: str | None

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The last section of the page."""
        if not self.epilog:
            return
        with formatter.section("Examples"):
            for line in self.epilog.strip().splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line}".rstrip() + "\n")


class Group(_Examples, TyperGroup):
    """The commands together."""


class Command(_Examples, TyperCommand):
    """A command whose help groups options by their `rich_help_panel`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Arguments by the names that they have further down."""
        arguments = [each for each in self.get_params(ctx) if each.param_type_name == "argument"]
        names = [_name(each) for each in arguments]
        return [
            self.options_metavar or "",
            *(
                name if each.required else f"[{name}]"
                for name, each in zip(names, arguments, strict=True)
            ),
        ]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, options without a panel, then the panels in the order of their first ones."""
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if parameter.param_type_name == "argument":
                panels["Arguments"].append((_name(parameter), record[1]))
            else:
                panel = getattr(parameter, "rich_help_panel", None) or "Options"
                panels.setdefault(panel, []).append(record)
        for title, records in panels.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _name(argument: Any) -> str:
    """Without the type, which the text says in words."""
    return str(argument.metavar or argument.human_readable_name)
