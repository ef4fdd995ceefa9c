"""`python -m benchmarks`: this pipeline against the baseline, in turn, in one run. Ends with 1 below twice its rate.

`python -m benchmarks seal`: the sealing of one envelope, against the RSA operation alone and against xmlsec.
"""

import os
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import seal
from benchmarks.course import BenchError, Contestant, Course, Round, agency, payload
from benchmarks.ours import Pipeline
from benchmarks.report import Report
from benchmarks.servers import opened
from benchmarks.theirs import POOLS, Baseline, install
from pipeline.sandbox.home import open_home
from pipeline.telemetry import configure_logs
from workers.process import Worker

_RESULTS = Path("var/bench")
_ENVIRONMENT = Path("build/baseline")

app = typer.Typer(add_completion=False)


@app.callback(invoke_without_command=True)
def lodge(
    context: typer.Context,
    rounds: Annotated[int, typer.Option(min=1, help="How often each contestant runs.")] = 3,
    lodgments: Annotated[int, typer.Option(min=1, help="Lodgments of ours in a round.")] = 3000,
    baseline_lodgments: Annotated[int, typer.Option(min=1, help="Lodgments of the baseline's in a round.")] = 1500,
    warm_up: Annotated[int, typer.Option(min=1, help="Lodgments before each round that do not count.")] = 200,
    extra: Annotated[list[Worker] | None, typer.Option(help="A worker that gets one more process.")] = None,
    target: Annotated[float, typer.Option(help="The ratio below which this fails.")] = 2.0,
) -> None:
    """Measure lodgments per second, end to end; or what a command names."""
    if context.invoked_subcommand is not None:
        return
    console = Console()
    python = install(_ENVIRONMENT.resolve())
    logs = _new_folder()
    results: list[Round] = []
    with tempfile.TemporaryDirectory() as name, opened() as servers:
        folder = Path(name)
        home = open_home(folder / "sandbox", datetime.now(UTC))
        with agency(home, logs / "agency.log") as (pid, agency_url, sts_url):
            course = Course(servers, home, pid, agency_url, sts_url, payload(), folder, logs)
            ours = Pipeline(course, extra or ())
            theirs = [Baseline(course, python, pool) for pool in POOLS]
            contestants: list[Contestant] = [ours, *theirs]
            for number in range(1, rounds + 1):
                for one in contestants:
                    results.append(one.run(lodgments if one is ours else baseline_lodgments, warm_up))
                    load = os.getloadavg()[0]
                    console.print(f"round {number}: {one.name}: {results[-1].rate:.0f}/s (load {load:.1f})")
    report = Report(results)
    report.show(console)
    report.write(logs / "result.json")
    console.print(f"written to {logs / 'result.json'}")
    sys.exit(0 if report.ratio >= target else 1)


@app.command("seal")
def measure_seal(
    slices: Annotated[int, typer.Option(min=2, help="Turns of each contestant at 20 KB; larger ones get fewer.")] = 200,
    core: Annotated[int | None, typer.Option(help="The core to measure on; the last one, if not said.")] = None,
) -> None:
    """Measure the sealing of one envelope on one core, beside bare RSA-2048 and xmlsec. Ends with 1 below a target."""
    console = Console()
    measured = seal.measure(slices, core, console)
    seal.show(measured, console)
    result = _new_folder() / "result.json"
    seal.write(measured, result)
    console.print(f"written to {result}")
    sys.exit(0 if all(target.reached for target in measured.targets) else 1)


def _new_folder() -> Path:
    folder = _RESULTS.resolve() / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    configure_logs("warning", json_lines=False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("benchmarks: stopped"))
    try:
        app()
    except BenchError as error:
        sys.exit(f"benchmarks: {error}")
