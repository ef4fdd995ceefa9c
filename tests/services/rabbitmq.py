"""A RabbitMQ node of the tests' own, from the binaries that are installed: as any user, beside any other node."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.services.processes import Service, ServiceError, free_port

_LIBRARY = Path("/usr/lib/rabbitmq/lib")


class PrivateRabbit:
    """`start`, `kill` and `start` again keep ports and data; `stop` removes everything."""

    def __init__(self, beside: "PrivateRabbit | None" = None) -> None:
        """`beside`: a node whose name server and cookie it shares, so that it can join it; stop that one last."""
        scripts = _scripts()
        self._home = Path(tempfile.mkdtemp(prefix="lodge-rabbit-"))
        self.port = free_port()
        self._epmd_port: int = free_port() if beside is None else beside._epmd_port
        self._cookie: str = secrets.token_hex(16) if beside is None else beside._cookie
        self._owns_epmd = beside is None
        cookie = self._home / ".erlang.cookie"
        cookie.write_text(self._cookie)
        cookie.chmod(0o400)
        self._env = self._environment()
        self._ctl = str(scripts / "rabbitmqctl")
        (self._home / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\n")
        (self._home / "enabled_plugins").write_text("[].\n")
        # A name server of our own: the machine's may be absent, or outlive us.
        self._epmd = Service(
            "epmd",
            ["epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)],
            self._home / "epmd.log",
            lambda: _accepts(self._epmd_port),
        )
        self._node = Service(
            "RabbitMQ",
            [str(scripts / "rabbitmq-server")],
            self._home / "node.log",
            lambda: _greets(self.port),
            env=self._env,
        )
        if self._owns_epmd:
            self._epmd.start()

    @property
    def name(self) -> str:
        """Of the node, as others join it."""
        return f"lodge-{self.port}@localhost"

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def start(self) -> None:
        self._node.start()

    def join(self, other: "PrivateRabbit") -> None:
        """Become a member of the other node's cluster."""
        for command in (("stop_app",), ("join_cluster", other.name), ("start_app",)):
            self.ctl(*command)

    def kill(self) -> None:
        self._node.kill()

    def stop(self) -> None:
        self._node.stop()
        self._epmd.kill()
        shutil.rmtree(self._home, ignore_errors=True)

    def ctl(self, *arguments: str) -> str:
        """`rabbitmqctl` against this node."""
        done = subprocess.run(
            [self._ctl, "--quiet", *arguments], env=self._env, capture_output=True, text=True, check=False, timeout=60
        )
        if done.returncode != 0:
            raise ServiceError(f"rabbitmqctl {arguments[0]}: {done.stdout}{done.stderr}")
        return done.stdout

    def _environment(self) -> dict[str, str]:
        home = str(self._home)
        return {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": f"{home}/data",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": f"{home}/pid",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
            # The machine's own node may be configured there.
            "RABBITMQ_CONF_ENV_FILE": f"{home}/no-such-file",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{home}/advanced.config",
        }


class PrivateCluster:
    """Three nodes that know each other; a queue that is declared on any of them has a member on each."""

    SIZE = 3

    def __init__(self) -> None:
        first = PrivateRabbit()
        self.nodes = [first, *(PrivateRabbit(beside=first) for _ in range(self.SIZE - 1))]

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    def start(self) -> None:
        """Start every node, and let the others join the first."""
        with ThreadPoolExecutor(self.SIZE) as threads:
            for started in [threads.submit(node.start) for node in self.nodes]:
                started.result()
        first, *others = self.nodes
        for node in others:
            node.join(first)

    def leader_of(self, queue: str, asked: PrivateRabbit) -> PrivateRabbit:
        """The node that leads a queue, in the words of the node `asked`."""
        rows = [line.split() for line in asked.ctl("list_queues", "name", "leader").splitlines()]
        [leader] = [row[1] for row in rows if row[0] == queue]
        [node] = [node for node in self.nodes if node.name == leader]
        return node

    def stop(self) -> None:
        """The first node last: its name server is everybody's."""
        for node in reversed(self.nodes):
            node.stop()


def _scripts() -> Path:
    """The folder of the server's own scripts; Debian's wrapper around them insists on its own user and folders."""
    if not _installed() and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", "rabbitmq-server"]):
            subprocess.run(command, env=environment, check=False, timeout=600, stdout=subprocess.DEVNULL)
    installed = _installed()
    if not installed:
        raise ServiceError(
            f"no RabbitMQ: set LODGE_TEST_AMQP_URL to a broker, or install rabbitmq-server (looked in {_LIBRARY})"
        )
    return installed[-1]


def _installed() -> list[Path]:
    return sorted(path.parent for path in _LIBRARY.glob("rabbitmq_server-*/sbin/rabbitmq-server"))


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _greets(port: int) -> bool:
    """Whether an AMQP server answers the protocol header, not just a socket the connection."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as peer:
            peer.sendall(b"AMQP\x00\x00\x09\x01")
            return bool(peer.recv(1))
    except OSError:
        return False
