"""Text of strangers, made fit to be looked at: what a terminal or a browser would obey becomes a visible sign."""

from __future__ import annotations

import re

# Control characters but line break and tab, what turns the direction of writing or cannot be seen, half surrogates.
OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)
PICTURES = 0x2400  # Unicode's control pictures stand in the order of ASCII's control characters


def visible(text: str) -> str:
    """The text with a sign in the place of each character that is an order: ``␛`` for escape, ``⟨U+202E⟩``.

    A carriage return before a line break goes. The joiners of emoji and of Indic and Persian writing stay.
    """
    return OBEYED.sub(_sign, text.replace("\r\n", "\n"))


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(PICTURES + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"
