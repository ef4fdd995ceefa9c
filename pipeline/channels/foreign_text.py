"""Text that somebody else wrote, on its way to people."""

import re

TEXT_LIMIT = 1_000
"""Characters that are kept of any text of a reply."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]+")
"""Controls, line separators and text direction marks: what could forge a log line or a screen."""


def plain(text: str, limit: int = TEXT_LIMIT) -> str:
    """Foreign text made safe to store and show: one line, no control or direction characters, cut at `limit`."""
    return " ".join(_UNPRINTABLE.sub(" ", text[: 2 * limit]).split())[:limit].rstrip()
