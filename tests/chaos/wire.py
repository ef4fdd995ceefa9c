"""The network between a transport worker and the agency cuts: before, during and after the request, in the reply."""

import socket
import ssl
from collections.abc import Callable
from functools import partial

from tests.chaos.batches import PLAIN
from tests.chaos.fronts import network
from tests.chaos.ground import Ground
from tests.chaos.scenario import Field, Scenario
from tests.doubles.toxic_proxy import Harm, Toxic, ToxicProxy, Way
from tests.services.pipeline_processes import until

Place = Callable[[dict[Way, int], Harm], Toxic]
"""Where the cut is, given how many bytes a TLS handshake takes in each direction."""
_MET = """
SELECT count(DISTINCT a.reference), min(a.failure_code), max(a.failure_code)
  FROM attempt_history a JOIN lodgment_outcome l ON l.lodgment_id = a.lodgment_id
 WHERE l.job_id LIKE '{}-%' AND a.failure_code IS NOT NULL"""


def play(field: Field, place: Place, code_of: dict[Harm, set[str]]) -> None:
    """The same lodgments go through each harm, one after the other; then the network heals."""
    with field.ground(agency_timeout=1.5) as ground, network(ground) as proxy:
        ground.open()
        handshake = _handshake(ground, proxy)
        for harm, codes in code_of.items():
            proxy.toxics = (place(handshake, harm),)
            in_a_loop(proxy)
            ground.push(field.marked.batch(field.size // len(code_of), harm.name.lower(), PLAIN))
            _await_failure(field, ground, harm.name.lower(), codes)
            proxy.toxics = ()
        ground.verdict()


def in_a_loop(proxy: ToxicProxy) -> None:
    """Connections that workers keep open have passed the place already: the network drops them, too."""
    for connection in tuple(proxy._connections):
        connection.get_loop().call_soon_threadsafe(connection.cancel)


def _handshake(ground: Ground, proxy: ToxicProxy) -> dict[Way, int]:
    before = dict(proxy.passed)
    context = ssl.create_default_context(cafile=ground.ca_file)
    with (
        socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as peer,
    ):
        peer.settimeout(10)
    return {way: proxy.passed[way] - before[way] for way in Way}


def _await_failure(field: Field, ground: Ground, name: str, codes: set[str]) -> None:
    """Until every lodgment of the batch has met the cut, as one of `codes`."""
    size = len([job_id for job_id in ground.ends if job_id.startswith(name)])
    met = _MET.format(name)
    until(f"all of {name} met the cut", lambda: ground.query(met)[0][0] == size, 120, lambda: ground.query(met))
    [(count, first, last)] = ground.query(met)
    field.note(f"{name}: {count} lodgments met {first}" + (f" … {last}" if last != first else ""))
    assert {first, last} <= codes, f"{name}: {first}, {last} are not among {sorted(codes)}"


def _before(_: dict[Way, int], harm: Harm) -> Toxic:
    return Toxic(Way.TO_SERVER, harm)


def _during(handshake: dict[Way, int], harm: Harm) -> Toxic:
    return Toxic(Way.TO_SERVER, harm, after=handshake[Way.TO_SERVER] + 4000)


def _after(handshake: dict[Way, int], harm: Harm) -> Toxic:
    return Toxic(Way.TO_CLIENT, harm, after=handshake[Way.TO_CLIENT] + 20)


def _reply(handshake: dict[Way, int], harm: Harm) -> Toxic:
    return Toxic(Way.TO_CLIENT, harm, after=handshake[Way.TO_CLIENT] + 1200)


_CUT = {"transport.write", "transport.reset", "transport.truncated"}
_SILENT = {"transport.read-timeout", "transport.timeout"}
_PLACES = (
    ("before", "before its first byte", _before, {"transport.tls", "transport.connect"}, {"transport.connect-timeout"}),
    ("request", "in the middle of the request", _during, _CUT, _SILENT),
    ("after", "between request and reply", _after, _CUT, _SILENT),
    ("reply", "in the middle of the reply", _reply, _CUT, _SILENT),
)
SCENARIOS = tuple(
    Scenario(
        "wire",
        name,
        f"the connection to the agency is reset, closed and swallowed {where}",
        partial(play, place=place, code_of={Harm.RESET: cut, Harm.CLOSE: cut, Harm.SWALLOW: silent}),
        size=60,
    )
    for name, where, place, cut, silent in _PLACES
)
