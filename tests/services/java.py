"""A JDK, if there is one, and the Java libraries that judge signatures beside it: Debian's, installed when possible."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.services.processes import ServiceError

_SOURCES = Path(__file__).parents[1] / "oracles" / "java"
_JARS = Path("/usr/share/java")
_LIBRARIES = (
    "wss4j.jar",
    "xmlsec.jar",
    "commons-logging.jar",
    "slf4j-api.jar",
    "commons-codec.jar",
    "jakarta-mail.jar",
    "jakarta-activation.jar",
)
_PACKAGES = ("libwss4j-java", "libxml-security-java", "libcommons-codec-java", "libjakarta-mail-java")


class CompiledJava:
    """The classes of `tests/oracles/java` for one run, compiled in a folder of their own; `remove` takes it away."""

    def __init__(self, main: str, *, with_libraries: bool) -> None:
        if shutil.which("javac") is None or shutil.which("java") is None:
            raise ServiceError("no JDK: install default-jdk-headless to let Java judge the signatures too")
        libraries = _libraries() if with_libraries else []
        self._folder = Path(tempfile.mkdtemp(prefix="lodge-java-"))
        self._class_path = ":".join((str(self._folder), *map(str, libraries)))
        self._main = main
        source = _SOURCES / f"{main}.java"
        subprocess.run(
            ["javac", "-d", self._folder, "-cp", self._class_path, "-sourcepath", _SOURCES, source],
            check=True,
            timeout=240,
            stderr=subprocess.PIPE,
        )

    @property
    def command(self) -> list[str]:
        """One small process: a serial collector, and no compiler that is slow to warm up."""
        return ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", self._class_path, self._main]

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _libraries() -> list[Path]:
    wanted = [_JARS / name for name in _LIBRARIES]
    if not all(path.exists() for path in wanted) and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        patient = ["apt-get", "-o", "DPkg::Lock::Timeout=300"]
        for command in ([*patient, "update"], [*patient, "install", "-y", *_PACKAGES]):
            subprocess.run(command, env=environment, check=False, timeout=600, stdout=subprocess.DEVNULL)
    missing = [path.name for path in wanted if not path.exists()]
    if missing:
        raise ServiceError(f"no {', '.join(missing)} in {_JARS}: install {' '.join(_PACKAGES)}")
    return wanted
