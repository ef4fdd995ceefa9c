"""`lodge run`, `lodge worker`: what keeps running."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.lodgment.errors import ConfigurationError
from pipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from workers.process import Worker


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("run")(run)
    app.command("worker")(worker)


def run() -> None:
    """Run all six workers in this process, until SIGTERM or Ctrl-C; what is in hand is finished first.

    Without LODGE_BROKER_URLS this is the embedded profile: the queues live in this process, and at start everything
    that is not final is put back on them.
    """
    from workers.process import Worker

    _serve(load_settings(), tuple(Worker))


def worker(
    name: Annotated[str, typer.Argument(help="intake, token, signer, transport, outcome or scheduler")],
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Serve Prometheus metrics on this loopback port.")
    ] = None,
) -> None:
    """Run one worker in this process, until SIGTERM or Ctrl-C; what is in hand is finished and acknowledged first.

    Start as many of each as wanted. Killing one at any moment loses nothing: others take over.
    """
    from workers.process import Worker

    names = ", ".join(Worker)
    if name not in set(Worker):
        raise ConfigurationError("worker.unknown", f"worker: there is no {name!r}; there are {names}")
    settings = load_settings()
    if settings.embedded:
        text = "broker_urls: one worker needs a broker: set LODGE_BROKER_URLS, or use `lodge run`"
        raise ConfigurationError("worker.embedded", text)
    if metrics_port is not None:
        settings = settings.model_copy(update={"metrics_port": metrics_port})
    _serve(settings, (Worker(name),))


def _serve(settings: Settings, workers: "tuple[Worker, ...]") -> None:
    import uvloop

    from pipeline.telemetry import configure_logs
    from workers.process import serve

    configure_logs(settings.log_level, json_lines=settings.log_format == "json")
    uvloop.run(serve(settings, workers))
