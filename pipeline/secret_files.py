"""Files that hold secrets: their owner's alone, or not used."""

from pathlib import Path

from pipeline.lodgment.errors import ConfigurationError


def read_secret(path: Path, what: str) -> str:
    """A secret's text from its file; the file must be its owner's alone.

    Raises:
        ConfigurationError: `secret.missing`, `secret.permissions` or `secret.empty`; names the file, never its content.
    """
    try:
        require_private(path, what)
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError("secret.missing", f"{what}: cannot read {path}") from error
    if not text:
        raise ConfigurationError("secret.empty", f"{what}: {path} is empty")
    return text


def require_private(path: Path, what: str) -> None:
    """Refuse a file that others can read.

    Raises:
        ConfigurationError: `secret.permissions`, with the command that mends it.
        OSError: the file cannot be looked at.
    """
    if path.stat().st_mode & 0o077 and not _mounted_secret(path):
        raise ConfigurationError("secret.permissions", f"{what}: {path} is readable by others; run chmod 600 {path}")


def _mounted_secret(path: Path) -> bool:
    """Container secrets are mounted read-only for all users of the container, where there is one."""
    return path.resolve().is_relative_to("/run/secrets")
