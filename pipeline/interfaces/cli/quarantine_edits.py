"""A job in quarantine, changed field by field; a dot leads into a field."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.lodgment.errors import ConfigurationError, RefusedError


def assignment(text: str) -> tuple[str, str]:
    """FIELD=VALUE in two.

    Raises:
        ConfigurationError: `quarantine.fix`.
    """
    field, equals, value = text.partition("=")
    if not equals or not field.strip():
        raise ConfigurationError("quarantine.fix", f"--set: {text.partition('=')[0]!r} must be FIELD=VALUE")
    return field.strip(), value


def changed(body: bytes, sets: Sequence[tuple[str, str]], without: Sequence[str]) -> bytes:
    """The job with fields set and left out; a dot leads into a field.

    Raises:
        RefusedError: `quarantine.json`, `quarantine.field`.
    """
    try:
        job = json.loads(body)
    except (ValueError, RecursionError):
        job = None
    if not isinstance(job, dict):
        raise RefusedError("quarantine.json", "the message is no JSON object, so it has no fields: use --with FILE")
    for path, value in sets:
        holder, name = _holder(job, path)
        holder[name] = value
    for path in without:
        holder, name = _holder(job, path)
        if name not in holder:
            raise RefusedError("quarantine.field", f"--unset: the job has no field {path}")
        del holder[name]
    return json.dumps(job, ensure_ascii=False, separators=(",", ":")).encode()


def _holder(job: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    *outer, name = path.split(".")
    holder = job
    for part in outer:
        inner = holder.setdefault(part, {})
        if not isinstance(inner, dict):
            raise RefusedError("quarantine.field", f"{path}: {part} is no object, it has no fields")
        holder = inner
    return holder, name


def told(sets: Sequence[tuple[str, str]], without: Sequence[str], whole: Path | None) -> str:
    """Which fields were changed, for the audit; what they hold may be personal data."""
    if whole is not None:
        return "replaced as a whole"
    return ", ".join([*(f"{path} set" for path, _ in sets), *(f"{path} left out" for path in without)])
