"""Characters that look alike, for consoles that lack the right ones."""

import codecs

LOOKALIKE = "deepcapacity.plain"  # the name of an error handler for encoding
PLAIN = {
    "─": "-", "━": "-", "═": "=", "│": "|", "┃": "|", "║": "|", "±": "+/-", "×": "x", "→": "->", "–": "-",
    "—": "-", "“": '"', "”": '"', "‘": "'", "’": "'", "…": "...", "≤": "<=", "≥": ">=", "·": "*", "²": "^2",
}  # fmt: skip
CORNERS = "┌┐└┘├┤┬┴┼┏┓┗┛┡┩┢┪╇╈╞╡╪┠┨╭╮╰╯╶╴╺╸╷╵"


def plain(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks by others that look alike, or by question marks.

    >>> "0.1 ± 0.2 │ ρ".encode("ascii", "deepcapacity.plain")
    b'0.1 +/- 0.2 | ?'
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join("+" if c in CORNERS else PLAIN.get(c, "?") for c in lacking), error.end


codecs.register_error(LOOKALIKE, plain)
