"""Every door by which foreign XML comes in, against every document that is made to hurt a parser.

Each genuine document is taken first, so that a refusal is the attack's. A listening socket stands for the network: an
external entity that is resolved would be seen to call it.
"""

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.channels import mas_st
from pipeline.channels.asic_profile import SERVICE
from pipeline.channels.contract import Reply, Sent
from pipeline.lodgment.failures import Failure
from pipeline.lodgment.job import JobRefusedError
from pipeline.protocol.keystore import KeystoreError, read_keystore
from pipeline.protocol.soap import read_envelope
from pipeline.protocol.synthetic_keystore import write
from pipeline.protocol.wsse import AssertionReference, identity_token
from pipeline.protocol.wstrust import TokenRequest
from pipeline.protocol.xml import XmlError, parse
from pipeline.sandbox.sts import STS_PATH, TokenService
from tests.doubles import sts_replies
from tests.doubles.asic import NAMESPACE, PAYLOAD, make_assertion, make_channel, make_lodgment
from tests.doubles.documents import prepared_by
from tests.doubles.parser_attacks import BROKEN, OVERSIZED, TELLTALE, Attack, declared
from tests.doubles.synthetic_credentials import credential
from tests.services.sandbox_home import new_home

PASSWORD = "Synthetic-1"
REFERENCE = "0199aabb-ccdd-7eef-8123-456789abcdef"
REPLY = (
    '<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"><e:Body>'
    f'<n:reply xmlns:n="{NAMESPACE}" xmlns:h="uri:business.document.header.types.asic.gov.au">'
    "<h:businessDocumentHeader>"
    f"<h:messageType>bnLodgeApplication</h:messageType><h:messageReferenceNumber>{REFERENCE}</h:messageReferenceNumber>"
    "<h:result><h:accepted/></h:result></h:businessDocumentHeader></n:reply></e:Body></e:Envelope>"
).encode()


@dataclass(frozen=True, slots=True)
class Door:
    """A reader of foreign documents. `enter` gives the refusal, or None where the document is taken."""

    genuine: bytes
    enter: Callable[[bytes], str | None]


def _raises(read: Callable[[bytes], object], *errors: type[ValueError]) -> Callable[[bytes], str | None]:
    def enter(document: bytes) -> str | None:
        try:
            read(document)
        except errors as error:
            return str(error)
        return None

    return enter


def _prepare(document: bytes) -> str | None:
    try:
        prepared_by(make_channel(), SERVICE, "bnLodgeApplication", document)
    except JobRefusedError as error:
        return f"{error.code} {error}"
    return None


def _read_reply(document: bytes) -> str | None:
    found = make_channel().read_reply(Reply(200, "application/soap+xml", document), Sent(make_lodgment()))
    return f"{found.code} {found.detail}" if isinstance(found, Failure) else None


def _read_token(document: bytes) -> str | None:
    sent = mas_st.StsRequest(
        "https://sts.invalid", (), b"", TokenRequest(sts_replies.APPLIES_TO), sts_replies.MESSAGE_ID, timedelta(0)
    )
    found = mas_st.read_reply(sent, 200, document, sts_replies.NOW)
    return f"{found.code} {found.detail}" if isinstance(found, Failure) else None


DOORS = {
    "parse": Door(PAYLOAD, _raises(parse, XmlError)),
    "envelope": Door(REPLY, _raises(read_envelope, XmlError)),
    "payload": Door(PAYLOAD, _prepare),
    "reply of ASIC": Door(REPLY, _read_reply),
    "reply of the token service": Door(sts_replies.token_reply(), _read_token),
    "keystore": Door(
        write([credential()], PASSWORD, b"synthetic"),
        _raises(lambda document: read_keystore(document, PASSWORD), KeystoreError),
    ),
    "assertion": Door(
        make_assertion(), _raises(lambda document: identity_token(document, AssertionReference.WSU_ID), XmlError)
    ),
}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def _calls(listener: socket.socket) -> int:
    calls = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            calls += 1
    return calls


@pytest.mark.parametrize("name", DOORS)
def test_a_document_type_is_refused_and_nothing_is_fetched(name: str, tmp_path: Path, listener: socket.socket) -> None:
    door = DOORS[name]
    assert door.enter(door.genuine) is None
    secret = tmp_path / "secret"
    secret.write_text(TELLTALE)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
    taken: list[str] = []
    for attack, bend in declared(str(secret), address).items():
        refusal = door.enter(bend(door.genuine))
        if refusal is None or TELLTALE in refusal:
            taken.append(f"{attack}: {refusal}")
    assert not taken
    assert _calls(listener) == 0


def test_the_listener_would_notice_a_call(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()):
        assert _calls(listener) == 1


@pytest.mark.parametrize("name", DOORS)
@pytest.mark.parametrize("attacks", [OVERSIZED, BROKEN], ids=["oversized", "broken"])
def test_oversized_and_broken_documents_are_refused(name: str, attacks: dict[str, Attack]) -> None:
    door = DOORS[name]
    taken = [attack for attack, bend in attacks.items() if door.enter(bend(door.genuine)) is None]
    assert not taken


@pytest.mark.parametrize("name", DOORS)
def test_xinclude_and_stylesheets_are_never_followed(name: str, tmp_path: Path, listener: socket.socket) -> None:
    door = DOORS[name]
    (tmp_path / "secret").write_text(TELLTALE)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
    for target in (address, (tmp_path / "secret").as_uri()):
        include = f'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="{target}" parse="text"/>'.encode()
        end = door.genuine.rindex(b"</")
        document = f'<?xml-stylesheet href="{target}"?>'.encode() + door.genuine[:end] + include + door.genuine[end:]
        assert TELLTALE not in (door.enter(document) or "")
    assert _calls(listener) == 0


def test_the_sandbox_refuses_the_same_documents(tmp_path: Path, listener: socket.socket) -> None:
    home = new_home(tmp_path / "home")
    service = TokenService(home)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
    attacks = {**declared(str(home.keystore_password_file), address), **OVERSIZED, **BROKEN}
    answers = {
        attack: service.answer(bend(sts_replies.token_reply()), STS_PATH, datetime.now(UTC))
        for attack, bend in attacks.items()
    }
    assert {answer.status for answer in answers.values()} == {500}
    secret = home.keystore_password_file.read_bytes()
    assert not [attack for attack, answer in answers.items() if secret in answer.body]
    assert [attack for attack, answer in answers.items() if b"InvalidRequest" not in answer.body] == []
    assert _calls(listener) == 0


_MEASURE = """
import json, resource, sys, time
from pipeline.protocol.xml import XmlError, parse
from tests.doubles.asic import PAYLOAD
from tests.doubles.parser_attacks import OVERSIZED, declared, inside
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
attacks = {**declared("/nonexistent", "http://127.0.0.1:1/"), **OVERSIZED}
attacks["an attribute of 10 MB"] = inside("<a b='" + "x" * 10_000_000 + "'/>")
for name, bend in attacks.items():
    document = bend(PAYLOAD)
    before, started = peak(), time.process_time()
    try:
        parse(document)
        refused = False
    except XmlError:
        refused = True
    print(json.dumps([name, refused, time.process_time() - started, peak() - before, len(document)]))
"""


def test_every_attack_costs_little_time_and_memory() -> None:
    """Seconds of CPU, and growth of the process's peak; what is refused is refused before it is blown up."""
    done = subprocess.run([sys.executable, "-c", _MEASURE], capture_output=True, text=True, check=True, timeout=120)
    measured = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(measured) == 19
    for name, refused, seconds, growth, size in measured:
        assert refused or name == "an attribute of 10 MB", name
        assert seconds < 5, (name, seconds)
        assert growth < 16 * 1024 * 1024 + 8 * size, (name, growth, size)


_LARGE = """
import json, resource
from pipeline.channels.asic_profile import SERVICE
from pipeline.lodgment.job import JobRefusedError
from tests.doubles.asic import NAMESPACE, make_channel, make_order
from tests.doubles.documents import prepared_by
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def payload(size):
    text = b"x" * size
    start = f"<b:businessDocumentBody xmlns:b='{NAMESPACE}'><b:a>".encode()
    return b"".join((start, text, b"</b:a></b:businessDocumentBody>"))
channel, order = make_channel(), make_order()
channel.seal(order)
at_start = peak()
too_big = payload(51 * 1024 * 1024)
before = peak()
try:
    prepared_by(channel, SERVICE, "bnLodgeApplication", too_big)
    code = None
except JobRefusedError as error:
    code = error.code
print(json.dumps([code, (peak() - before) / len(too_big)]))
del too_big
large = payload(49 * 1024 * 1024)
prepared = prepared_by(channel, SERVICE, "bnLodgeApplication", large).content
del large
envelope = channel.seal(make_order(prepared))
print(json.dumps([len(envelope.head) + len(prepared) + len(envelope.tail), (peak() - at_start) / len(prepared)]))
"""


def test_49_megabytes_are_taken_within_five_times_their_size_and_51_are_refused_at_once() -> None:
    """The five times are of all that the process holds, the document itself among it, from receiving to sealing."""
    done = subprocess.run([sys.executable, "-c", _LARGE], capture_output=True, text=True, check=True, timeout=120)
    (code, refusing), (size, sealing) = (json.loads(line) for line in done.stdout.splitlines())
    assert code == "payload.xml.size"
    assert refusing < 0.1
    assert 49 * 1024 * 1024 < size < 50 * 1024 * 1024
    assert sealing < 5
