"""Text from files, shown as it is: names and messages that a terminal shall not obey."""

from __future__ import annotations


def literal(text: str) -> str:
    r"""Text whose control characters have become their escapes; line ends and tabs stay.

    A file may be called "\x1b]0;x\x07" or hold characters that turn the direction of what
    follows: printed as they come they command the terminal, or show another name than there is.

    Examples
    --------
    >>> literal("scan\x1b[2J.png")
    'scan\\x1b[2J.png'
    """
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )
