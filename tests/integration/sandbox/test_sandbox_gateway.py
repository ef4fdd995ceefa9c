"""The gateway: good messages are answered, and each kind of bad one earns its own fault."""

import base64
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from lxml import etree

from pipeline.sandbox.asic_messages import SERVICES, Service
from pipeline.sandbox.home import Home
from tests.doubles.sandbox_client import SandboxClient
from tests.doubles.sandbox_messages import (
    HDR,
    SOAP,
    Token,
    at,
    element,
    lodgment_body,
)

Bend = Callable[[etree._Element], None]


async def test_accepts_a_lodgment_and_repeats_its_reference(
    client: SandboxClient, lodging: Service, token: Token
) -> None:
    reference = str(uuid.uuid4())
    answer = await client.lodge(lodging, client.message(lodging, lodgment_body(lodging), reference), token)

    assert (answer.status, answer.result) == (200, "accepted")
    assert answer.text(f"{{{HDR}}}messageReferenceNumber") == reference
    assert (answer.text(f"{{{HDR}}}documentNumber") or "").startswith("SYN")


async def test_returns_a_ping_with_its_own_timestamp(client: SandboxClient, ping: Service, token: Token) -> None:
    answer = await client.lodge(ping, client.message(ping, [element("{urn:synthetic}thing", "echo")]), token)

    assert answer.text("{urn:synthetic}thing") == "echo"
    assert [stamp.text for stamp in answer.root.iter(f"{{{HDR}}}source")] == ["sender", "ASIC"]


@pytest.mark.parametrize(("name", "available"), [("Quoll", "true"), ("Taken Already", "false")])
async def test_answers_a_query_and_writes_nothing_in_the_book(
    client: SandboxClient, token: Token, name: str, available: str
) -> None:
    service = next(one for one in SERVICES if one.message_type == "queryNameAvailability")
    reference = str(uuid.uuid4())
    message = client.message(service, [element(service.tag("proposedName"), name)], reference)
    answer = await client.lodge(service, message, token)

    assert answer.text(service.tag("available")) == available
    assert (await client.get(f"/sandbox/book?reference={reference}")).body == b""


async def test_describes_a_service_to_whoever_asks_for_its_wsdl(client: SandboxClient, lodging: Service) -> None:
    answer = await client.get(f"{lodging.path}?wsdl")
    assert (answer.status, etree.QName(answer.root).localname) == (200, "definitions")
    assert (await client.get(lodging.path)).status == 404


async def test_knows_no_other_service(client: SandboxClient) -> None:
    answer = await client.post("/gateway/ExternalNobodyPortV1", b"<a/>")
    assert (answer.status, answer.codes) == (500, ["Sender", "FAULT.UNKNOWNSERVICE"])


@pytest.mark.parametrize("body", [b"<a", b"", b"<!DOCTYPE a><a/>"])
async def test_refuses_what_is_not_well_formed(client: SandboxClient, lodging: Service, body: bytes) -> None:
    assert (await client.post(lodging.path, body)).codes == ["Sender", "FAULT.MALFORMEDXML"]


async def test_refuses_a_request_over_50_megabytes(client: SandboxClient, lodging: Service) -> None:
    answer = await client.post(lodging.path, b" " * (50 * 1024 * 1024 + 1))
    assert answer.codes == ["Sender", "FAULT.TOOBIG"]


async def test_speaks_soap_12_only(client: SandboxClient, lodging: Service) -> None:
    body = b'<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"/>'
    assert (await client.post(lodging.path, body)).codes == ["VersionMismatch"]


def _header(name: str, value: str) -> Bend:
    def bend(message: etree._Element) -> None:
        at(message, f"{{{HDR}}}{name}").text = value

    return bend


def _eastern(offset: timedelta) -> str:
    moment = datetime.now(UTC) + timedelta(hours=10) + offset
    return moment.replace(tzinfo=None).isoformat(timespec="seconds")


def _no_holder(message: etree._Element) -> None:
    body = message[1]
    body.remove(body[-1])


@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(_no_holder, id="missing element"),
        pytest.param(_header("messageType", "ping"), id="another message type"),
        pytest.param(_header("messageVersion", "2"), id="another version"),
        pytest.param(_header("messageReferenceNumber", "r" * 51), id="reference too long"),
        pytest.param(_header("timestamp", _eastern(timedelta(hours=1))), id="daylight saving time"),
        pytest.param(_header("timestamp", f"{_eastern(timedelta())}Z"), id="time with offset"),
        pytest.param(_header("timestamp", "2009-03-25T13:53:48"), id="time long ago"),
    ],
)
async def test_refuses_what_breaks_the_schema(
    client: SandboxClient, lodging: Service, token: Token, bend: Bend
) -> None:
    message = client.message(lodging, lodgment_body(lodging))
    bend(message)
    answer = await client.lodge(lodging, message, token)
    assert answer.codes == ["Sender", "FAULT.INVALIDXML"]


@pytest.mark.parametrize(("password", "result"), [(None, "accepted"), ("wrong", "rejected")])
async def test_takes_user_name_and_password_without_asking_for_them(
    client: SandboxClient, lodging: Service, home: Home, password: str | None, result: str
) -> None:
    login = f"{home.basic_user}:{password or home.basic_password_file.read_text()}"
    message = element(
        f"{{{SOAP}}}Envelope", element(f"{{{SOAP}}}Body", client.message(lodging, lodgment_body(lodging)))
    )
    authorization = f"Basic {base64.b64encode(login.encode()).decode()}"
    answer = await client.post(lodging.path, etree.tostring(message), Authorization=authorization)

    assert (answer.status, answer.result) == (200, result)
    assert answer.text(f"{{{HDR}}}errorCode") == (None if result == "accepted" else "00005")
