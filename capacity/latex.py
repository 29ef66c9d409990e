"""Text and numbers as LaTeX prints them, and how wide that is; widths of venues."""

import re
from dataclasses import dataclass

POINTS = 72.27  # TeX's points in an inch


@dataclass(frozen=True)
class Venue:
    """Widths of a column and of the text in inches; the same where there is one column."""

    column: float
    text: float


VENUES = {
    "article": Venue(4.77, 4.77),
    "neurips": Venue(5.5, 5.5),
    "icml": Venue(3.25, 6.75),
    "ieee-one": Venue(3.5, 3.5),
    "ieee-two": Venue(7.16, 7.16),
    "ieee": Venue(3.5, 7.16),
    "acl": Venue(3.03, 6.3),
}

LATEX = str.maketrans(
    {character: "\\" + character for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "\n": " ", "\r": " "}
)
SYMBOLS = {
    "±": r"$\pm$", "ρ": r"$\rho$", "κ": r"$\kappa$", "α": r"$\alpha$", "λ": r"$\lambda$", "τ": r"$\tau$",
    "Σ": r"$\Sigma$", "→": r"$\rightarrow$", "×": r"$\times$", "≤": r"$\le$", "≥": r"$\ge$", "²": r"$^2$",
    "∞": r"$\infty$", "·": r"$\cdot$", "−": "$-$", "–": "--", "—": "---", "“": "``", "”": "''", "‘": "`",
    "’": "'", "…": r"\dots{}", "ŷ": r"$\hat y$", "√": r"$\surd$", "‖": r"$\|$",
}  # fmt: skip
SUPERSCRIPTS = dict(zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789", strict=True))
WIDTHS = {  # thousandths of an em in Computer Modern, the widest of the usual fonts
    278: "il.,:;!'|[]", 306: "fj", 333: "- ", 389: "t()", 392: "rs", 444: "cez", 472: "?I",
    500: "ago0123456789/±·", 528: "kqvxy", 556: "bdhnpuS", 653: "JEFLPT", 722: "wBCDRUVXYZ",
    778: "AGHKNOQ+=<>~−×_", 833: "m%", 917: "M&→", 1028: "W@",
}  # fmt: skip
LETTERS = {letter: width / 980 for width, letters in WIDTHS.items() for letter in letters}
OTHER = 0.55


def escape_latex(value: object) -> str:
    r"""Text that LaTeX prints as it is, in one line.

    >>> print(escape_latex(r"C:\data\~me^2"))
    C:\textbackslash{}data\textbackslash{}\textasciitilde{}me\textasciicircum{}2
    """
    return str(value).translate(LATEX)


def words_in_latex(value: object) -> str:
    """Text with its signs and Greek letters, as LaTeX prints them in every font.

    >>> print(words_in_latex("50 % ± 3, ρ"))
    50 \\% $\\pm$ 3, $\\rho$
    """
    text = re.sub(r"(?<!\w)'([^']+)'(?!\w)", r"‘\1’", escape_latex(value))
    for sign, tex in SYMBOLS.items():
        text = text.replace(sign, tex)
    return re.sub(r"--(?=\w)", "-{}-", text) if " --" in text else text


def in_signs(tex: str) -> str:
    r"""A symbol in LaTeX as letters and signs.

    >>> in_signs(r"$\rho$, all points"), in_signs("$G$")
    ('ρ, all points', 'G')
    """
    for sign, letters in SYMBOLS.items():
        tex = tex.replace(letters, sign)
    return tex.replace("$", "")


def number_in_latex(text: str) -> str:
    """A cell of a number in mathematics, thousands apart; what is no number as words.

    >>> print(number_in_latex("12,346 ± 250"), number_in_latex("9.24·10⁻⁵"))
    $12\\,346 \\pm 250$ $9.24 \\cdot 10^{-5}$
    """
    if re.search(r"[^\d,.+\-±·()∞⁻⁰¹²³⁴⁵⁶⁷⁸⁹ ]", text):
        return words_in_latex(text)
    power = re.sub(
        r"[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda match: f"^{{{''.join(SUPERSCRIPTS[c] for c in match[0])}}}", text
    )
    tex = power.replace(",", r"\,").replace("±", r"\pm").replace("·", r" \cdot ").replace("∞", r"\infty")
    return f"${tex}$"


def em(text: str) -> float:
    """About how wide a text is, in em; rather too much than too little."""
    return sum(LETTERS.get(character, OTHER) for character in text)
