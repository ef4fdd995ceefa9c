"""What can go wrong while handling a message, by what happens next: three fates, and nothing else crosses a layer."""

_QUOTED = 80
"""Characters of somebody's text that an error repeats."""


def quoted(text: str) -> str:
    """`text` as an error may repeat it: in quotes, on one line, and cut."""
    return repr(text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…")


class PipelineError(Exception):
    """The root. `code` is stable and searchable; the text names field, rule and fix."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class DependencyDownError(PipelineError):
    """Fate one, wait: the ledger or the broker cannot be reached. The work is tried again; no message is blamed."""


class RefusedError(PipelineError):
    """Fate two, quarantine: this message or this input is bad, and trying again will not mend it."""


class ConfigurationError(PipelineError):
    """Fate three, stop: the process cannot work as configured. Said once, at start-up, with the setting's name."""
