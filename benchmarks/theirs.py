"""The baseline: Celery, from `baseline/`, in an environment of its own."""

import json
import subprocess
import sys
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks.course import PATIENCE, BenchError, Course, Round, Watch, plain_environment, running
from benchmarks.servers import BASELINE_STEPS
from pipeline.keyring import KeyPlaces, Keyring
from pipeline.protocol.credential import RsaKey

_BASELINE = Path(__file__).with_name("baseline")
_REQUIREMENTS = _BASELINE / "requirements.lock"
POOLS = {"threads": 8, "prefork": 4}
"""Its best settings seen on two cores, by Celery's name of the pool."""


class Baseline:
    """Celery with one kind of pool."""

    def __init__(self, course: Course, python: Path, pool: str) -> None:
        self._course = course
        self._python = python
        self._pool = pool
        self._environment = {
            **plain_environment(),
            "AMQP": course.servers.broker_url,
            "DB": course.servers.database_url.replace("postgresql://", "postgresql+psycopg://", 1),
            "AGENCY": course.agency_url,
            "CA": str(course.home.ca_file),
            "KEYS": str(course.folder),
            "PAYLOAD": str(course.folder / "payload.xml"),
            "QUEUES": course.servers.baseline_queues,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        _write_key(course)
        (course.folder / "payload.xml").write_text(course.payload)

    @property
    def name(self) -> str:
        return f"baseline, {POOLS[self._pool]} {'threads' if self._pool == 'threads' else 'processes'}"

    def run(self, lodgments: int, warm_up: int) -> Round:
        with ExitStack() as stack:
            worker = stack.enter_context(self._worker())
            command = [str(self._python), "run.py", str(warm_up), str(lodgments), f"{PATIENCE:.0f}"]
            producer = stack.enter_context(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=self._environment,
                    cwd=_BASELINE,
                )
            )
            assert producer.stdin is not None  # noqa: S101  - both are piped
            assert producer.stdout is not None  # noqa: S101
            if producer.stdout.readline() != "warm\n":
                raise BenchError("the baseline did not warm up")
            self._course.seen()
            watch = self._course.watch({"Celery": worker.pid, "producer": producer.pid})
            producer.stdin.write("\n")
            producer.stdin.flush()
            result = json.loads(producer.stdout.readline() or "{}")
            if not result:
                raise BenchError("the baseline did not finish; its own words are above")
            return self._round(result, watch)

    def _round(self, result: dict[str, float], watch: Watch) -> Round:
        lodgments = int(result["lodgments"])
        used = watch.read()
        if self._course.seen()["references"] != lodgments or result["message_events"] != lodgments:
            raise BenchError("the baseline did not lodge everything once")
        return Round(self.name, lodgments, result["seconds"], result["published_in"], used, {})

    def _worker(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        queues = ",".join(f"{self._course.servers.baseline_queues}.{step}" for step in BASELINE_STEPS)
        command = [str(self._python), "-m", "celery", "-A", "app", "worker", "-Q", queues, "-P", self._pool]
        command += ["-c", str(POOLS[self._pool]), "-l", "WARNING", "--without-gossip", "--without-mingle"]
        return running(command, self._course.logs / f"celery-{self._pool}.log", self._environment, _BASELINE)


def install(folder: Path) -> Path:
    """The Python of an environment with exactly the locked packages; made when it is not there yet."""
    python = folder / "bin" / "python"
    stamp = folder / "installed.lock"
    if not stamp.exists() or stamp.read_bytes() != _REQUIREMENTS.read_bytes():
        print(f"Installing the baseline's dependencies into {folder} ...")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        subprocess.run([*pip, "--require-hashes", "-r", str(_REQUIREMENTS)], check=True)
        stamp.write_bytes(_REQUIREMENTS.read_bytes())
    return python


def _write_key(course: Course) -> None:
    """The sandbox's first machine credential, as the baseline wants it."""
    keyring = Keyring(KeyPlaces(course.home.keystore_file, course.home.keystore_password_file))
    credential = next(one for one in keyring.all() if one.id == course.home.credential().id)
    if not isinstance(credential.private_key, RsaKey):
        raise BenchError("the sandbox's keystore holds its keys itself")
    key = credential.private_key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (course.folder / "k.pem").write_bytes(key)
    (course.folder / "c.der").write_bytes(credential.certificate_der)
