"""A broker's URL: what it may hold, for the asynchronous and the synchronous client alike."""

from urllib.parse import SplitResult, urlsplit

from pipeline.lodgment.errors import ConfigurationError


def parts_of(url: str) -> SplitResult:
    """The URL's parts; its host and port can be read.

    Raises:
        ConfigurationError: `broker.url`; the URL is not quoted, it may hold a password.
    """
    try:
        parts = urlsplit(url)
        fits = parts.scheme in {"amqp", "amqps"} and not parts.query and parts.port != 0
    except ValueError:  # a bracket without its other, a port that is no number
        fits = False
    if not fits:
        text = "broker_urls: each must be amqp[s]://user:password@host[:port]/vhost, port 1 to 65535, without a query"
        raise ConfigurationError("broker.url", text)
    return parts
