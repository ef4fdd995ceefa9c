"""SBR's own names in ebMS messages: the defaults, and that each of them can be corrected."""

from dataclasses import fields, replace

import pytest

from pipeline.protocol.ebms3 import PING_ACTION, PING_SERVICE, Agreement, Ebms3Error, Party, PartyId, Property
from pipeline.protocol.ebms3_messages import messaging
from pipeline.protocol.sbr_ebms3 import PartyKind, SbrProfile
from tests.doubles.as4 import MESSAGE_ID, NOW, PROFILE, SOFTWARE, pull, push, push_order


@pytest.mark.parametrize(
    ("kind", "type_", "role"),
    [
        (PartyKind.ABN, "http://abr.gov.au/PartyIdType/ABN", "http://sbr.gov.au/ato/Role/Business"),
        (PartyKind.WPN, "http://ato.gov.au/PartyIdType/WPN", "http://sbr.gov.au/ato/Role/Business"),
        (PartyKind.TAN, "http://ato.gov.au/PartyIdType/TAN", "http://sbr.gov.au/ato/Role/Registered Agent"),
    ],
)
def test_a_lodging_party_has_the_type_of_its_register_and_the_role_of_its_kind(
    kind: PartyKind, type_: str, role: str
) -> None:
    assert PROFILE.party(kind, "123") == Party((PartyId("123", type_),), role)


def test_a_push_says_who_what_with_which_software_and_for_which_subscription() -> None:
    message = push()
    assert [(one.name, one.value) for one in message.properties] == [
        ("ProductID", SOFTWARE.product_id),
        ("BMS Vendor", SOFTWARE.vendor),
        ("BMS Name", SOFTWARE.name),
        ("BMS Version", SOFTWARE.version),
        ("SoftwareSubscriptionId", "0004785936"),
    ]
    (part,) = message.parts
    assert part.href == "cid:payload-n1@pipeline.example.test"
    assert [(one.name, one.value) for one in part.properties] == [
        ("PartID", "part-1"),
        ("MimeType", "text/xml"),
        ("CompressionType", "application/gzip"),
        ("DocumentName", "PAYEVNT"),
        ("DocumentType", "BASE"),
    ]
    assert message.receiver == Party(
        (PartyId("51824753556", "http://abr.gov.au/PartyIdType/ABN"),), "http://sbr.gov.au/agency"
    )
    assert message.collaboration.agreement is None


def test_no_subscription_leaves_no_property() -> None:
    names = [one.name for one in PROFILE.push(replace(push_order(), software_id=None), NOW).properties]
    assert "SoftwareSubscriptionId" not in names


def test_a_pull_refers_to_the_push_in_the_request_itself() -> None:
    assert (pull().selected, pull().mpc, pull().info.ref_to_message_id) == (MESSAGE_ID, None, None)


def test_a_ping_is_for_the_test_service_and_carries_no_payload() -> None:
    ping = PROFILE.ping("ping@example.test", "c", push().sender, SOFTWARE, NOW)
    assert (ping.collaboration.service, ping.collaboration.action) == (PING_SERVICE, PING_ACTION)
    assert PING_SERVICE == "http://docs.oasis-open.org/ebxml-msg/ebms/v3.0/ns/core/200704/service"
    assert PING_ACTION == "http://docs.oasis-open.org/ebxml-msg/ebms/v3.0/ns/core/200704/test"
    assert ping.parts == ()


def test_every_name_of_the_profile_reaches_the_message() -> None:
    texts = {field.name: f"urn:test:{field.name}" for field in fields(SbrProfile) if isinstance(field.default, str)}
    profile = SbrProfile(
        **texts,
        party_types=tuple((kind, f"urn:test:{kind.value}") for kind in PartyKind),
        agency=Party((PartyId("urn:test:agency"),), "urn:test:role"),
        agreement=Agreement("urn:test:agreement"),
        further_properties=(Property("MSHIdentity", "urn:test:msh"),),
    )
    written = b""
    for kind in PartyKind:
        order = replace(push_order(), sender=profile.party(kind, "123"))
        written += messaging(profile.push(order, NOW), "m")[0]
    expected = {*texts.values(), *(f"urn:test:{kind.value}" for kind in PartyKind)}
    expected |= {"urn:test:agency", "urn:test:agreement", "urn:test:msh"}
    assert {value for value in expected if value.encode() not in written} == set()


@pytest.mark.parametrize("field", ["product_id", "vendor", "name", "version"])
def test_refuses_to_leave_a_property_of_the_product_empty(field: str) -> None:
    software = replace(SOFTWARE, **{field: " "})
    with pytest.raises(Ebms3Error, match="give it a value"):
        PROFILE.push(replace(push_order(), software=software), NOW)


def test_refuses_a_party_without_a_number_or_a_type() -> None:
    with pytest.raises(Ebms3Error, match="WPN"):
        PROFILE.party(PartyKind.WPN, "")
    with pytest.raises(Ebms3Error, match="TAN"):
        SbrProfile(party_types=()).party(PartyKind.TAN, "123")
