"""The sandbox's own readers: they judge messages, and a fuzzed client must get an answer like any other."""

import asyncio
import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, cast

from cryptography import x509

from pipeline.channels import mas_st
from pipeline.lodgment.references import TokenKey
from pipeline.protocol.ebms3_reader import read_envelope
from pipeline.protocol.gzip_stream import GzipError
from pipeline.protocol.keystore import read_keystore
from pipeline.protocol.mime import read_package
from pipeline.protocol.xml import XmlError, parse
from pipeline.sandbox.asic import Gateway
from pipeline.sandbox.asic_book import AsicBook, Submission
from pipeline.sandbox.asic_book import Entry as AsicEntry
from pipeline.sandbox.asic_messages import SERVICES
from pipeline.sandbox.home import APPLIES_TO, Home, open_home
from pipeline.sandbox.sbr2 import Door, Sbr2Gateways
from pipeline.sandbox.sbr2_book import Sbr2Book
from pipeline.sandbox.sbr2_document import read_pay_event
from pipeline.sandbox.soap import FaultError, Reply
from pipeline.sandbox.sts import STS_PATH, TokenService
from pipeline.sandbox.sts_gate import Requester
from pipeline.sandbox.sts_request import read_request
from tests.doubles import jobs, stp
from tests.doubles.pay_jobs import SOFTWARE_ID
from tests.fuzz.mutation import XML, Form
from tests.fuzz.scratch import cuts, folder
from tests.fuzz.target import Target, must

NOW = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)
_LODGING = next(service for service in SERVICES if service.updates)


@cache
def _home() -> Home:
    """Made now, for its certificates must be valid now."""
    return open_home(folder() / "home", datetime.now(UTC))


@cache
def _token_request() -> bytes:
    home = _home()
    password = home.keystore_password_file.read_text()
    known = home.credential()
    credential = next(one for one in read_keystore(home.keystore_file.read_bytes(), password) if one.id == known.id)
    key = TokenKey(
        "sandbox", f"https://localhost{STS_PATH}", APPLIES_TO, known.id, stp.ABN, SOFTWARE_ID, mas_st.CLAIMS, 512
    )
    return mas_st.request(mas_st.StsProfile(), credential, key, "urn:uuid:a", datetime.now(UTC), "n1").body


@cache
def _token_service() -> TokenService:
    return TokenService(_home())


def _sts(data: bytes) -> None:
    _answered(_token_service().answer(data, STS_PATH, datetime.now(UTC)))


def _answered(reply: Reply) -> None:
    must(reply.status in {200, 500}, "the answer is a reply or a fault")
    if reply.body:
        parse(reply.body)


def _wish(data: bytes) -> None:
    """What is asked for, without the signature that keeps a changed request out."""
    home = _home()
    requester = Requester(home.credential(), cast("x509.Certificate", None))
    request = read_request(parse(data), requester, NOW)
    must(NOW < request.expires_at <= NOW + timedelta(hours=8), "a token lives as long as may be")
    must(16 <= request.key_size // 8 <= 128, "a key has a size that may be")


class _Register:
    """ASIC's register that never saw the reference before, and keeps nothing."""

    async def settle(self, submission: Submission, now: datetime, decide: Callable[[AsicEntry], Any]) -> Any:
        return decide(AsicEntry(submission.body_sha256, now)).answer


@cache
def _gateway() -> tuple[Gateway, str]:
    home = _home()
    login = f"{home.basic_user}:{home.basic_password_file.read_text()}".encode()
    return Gateway(home, cast("AsicBook", _Register())), f"Basic {base64.b64encode(login).decode()}"


def _application_seeds() -> Sequence[bytes]:
    header = (
        "<h:messageType>bnLodgeApplication</h:messageType><h:messageReferenceNumber>a</h:messageReferenceNumber>"
        "<h:messageVersion>1</h:messageVersion><h:senderId>900001</h:senderId><h:senderType>REGA</h:senderType>"
        "<h:messageTimestamps><h:timestamp><h:timestamp>2026-11-25T03:00:00Z</h:timestamp><h:timestampSource>a"
        "</h:timestampSource></h:timestamp></h:messageTimestamps><h:softwareInformation><h:organisation>a"
        "</h:organisation><h:product>b</h:product><h:version>1</h:version></h:softwareInformation>"
    )
    return tuple(
        (
            '<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"><e:Body>'
            f'<n:request xmlns:n="{_LODGING.namespace}" xmlns:h="uri:business.document.header.types.asic.gov.au">'
            f"<h:businessDocumentHeader>{header}</h:businessDocumentHeader>{jobs.document(scenario)}</n:request>"
            "</e:Body></e:Envelope>"
        ).encode()
        for scenario in (None, "rejected", "delayed")
    )


def _asic(data: bytes) -> None:
    """By name and password, so that a changed message is read beyond its signature."""
    gateway, login = _gateway()
    now = datetime.now(UTC)
    for path in (_LODGING.path, SERVICES[-1].path):
        _answered(asyncio.run(gateway.answer(data, path, login, now)).reply)
    _answered(asyncio.run(gateway.answer(data, _LODGING.path, None, now)).reply)


@cache
def _sbr2_gateways() -> Sbr2Gateways:
    return Sbr2Gateways(_home(), cast("Sbr2Book", None))


@cache
def _push() -> tuple[bytes, ...]:
    from tests.doubles import as4

    sealed = as4.sealed()
    return (f"{sealed.multipart.content_type}\n".encode() + sealed.body(),)


def _sbr2(data: bytes) -> None:
    """Signed by nobody that the sandbox knows, so that its book is never asked."""
    content_type, _, body = data.partition(b"\n")
    said = content_type.decode(errors="replace")
    for door in (Door.PUSH, Door.PULL):
        reply = asyncio.run(_sbr2_gateways().answer("first", door, said, body, datetime.now(UTC))).reply
        must(len(read_envelope(read_package(reply.content_type, (reply.body,)).root).units) == 1, "one answer comes")


def _scripted(data: bytes) -> None:
    said = {str(read_pay_event(pieces)) for pieces in cuts(data)}
    must(len(said) == 1, "the pieces in which it comes make no difference")


def _script_seeds() -> Sequence[bytes]:
    name = "Rp/OrganisationName/DetailsOrganisationalNameT"
    return stp.pay_event({name: "SANDBOX: delayed times=2 seconds=0.5"}), stp.pay_event({name: "SANDBOX: rejected"})


TARGETS = (
    Target("sandbox-token-service", "every request is answered", lambda: (_token_request(),), _sts, (), XML),
    Target(
        "sandbox-token-wish",
        "key sizes and lifetimes are within their bounds",
        lambda: (_token_request(),),
        _wish,
        (FaultError, XmlError),
        XML,
    ),
    Target("sandbox-asic", "every request is answered", _application_seeds, _asic, (), XML),
    Target("sandbox-sbr2", "every request is answered", _push, _sbr2, (), XML),
    Target(
        "sandbox-pay-event",
        "the pieces in which it comes make no difference",
        _script_seeds,
        _scripted,
        (GzipError,),
        Form(XML.pieces, (*XML.values, b"SANDBOX: ", b"times=-1", b"seconds=1e400", b"seconds=nan", b"times=9e9")),
    ),
)
