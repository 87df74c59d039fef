"""A small table that a notebook shows as HTML and a terminal as aligned text.

The HTML sets no colors and no backgrounds, so that it can be read in light and dark themes.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

LEFT, RIGHT = "text-align:left", "text-align:right"


@dataclass(frozen=True)
class Table:
    """Rows of words.

    Attributes:
        head: the columns' names.
        rows: the cells; as many in each as there are columns.
        above: lines before it.
        below: lines after it.
        words: columns that hold words and stand to the left; all others hold numbers and stand to the right.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    above: Sequence[str] = ()
    below: Sequence[str] = ()
    words: Sequence[int] = (0,)

    def text(self) -> str:
        """For a terminal."""
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        lines = [self._line(cells, widths) for cells in (self.head, *self.rows)]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        return "\n".join([*self.above, lines[0], rule, *lines[1:], *self.below])

    def html(self) -> str:
        """For a notebook; everything is escaped."""
        head = self._cells("th", self.head)
        body = "".join(f"<tr>{self._cells('td', row)}</tr>" for row in self.rows)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return "<div>" + paragraphs(self.above) + table + paragraphs(self.below) + "</div>"

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        put = [
            cell.ljust(width) if place in self.words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(put).rstrip()

    def _cells(self, kind: str, cells: Sequence[str]) -> str:
        return "".join(
            f'<{kind} style="{LEFT if place in self.words else RIGHT}">{html.escape(cell)}</{kind}>'
            for place, cell in enumerate(cells)
        )


def paragraphs(lines: Sequence[str]) -> str:
    """Lines as one HTML paragraph, escaped; nothing for none."""
    return f"<p>{'<br>'.join(html.escape(line) for line in lines)}</p>" if lines else ""
