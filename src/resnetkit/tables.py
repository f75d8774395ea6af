"""Numbers in columns, as plain text: what a description prints where no terminal library may be."""

from collections.abc import Sequence


def readable_bytes(count: int) -> str:
    """Of 1024s, three digits or so.

    >>> readable_bytes(23_400_000)
    '22.3 MiB'
    """
    size, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def aligned(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: int, rule_before_last: bool = False
) -> list[str]:
    """Lines of aligned columns, the first `left` of them to the left."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    lines = [
        "  ".join(cell.ljust(width) if column < left else cell.rjust(width)
                  for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in (heads, *rows)
    ]  # fmt: skip
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    lines.insert(1, rule)
    if rule_before_last:
        lines.insert(-1, rule)
    return lines
