"""The token response: every shape that the service may give is read, every shape that it must not give is refused."""

import hmac
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from pipeline.protocol.namespaces import Ns
from pipeline.protocol.soap import Fault, read_envelope
from pipeline.protocol.wstrust import SecurityToken, TokenRequest, WsTrustError
from pipeline.protocol.wstrust_reply import Expected, read_token
from pipeline.protocol.xml import XmlError, canonical, parse
from tests.doubles.sts_replies import (
    APPLIES_TO,
    ASSERTION,
    ENCRYPTED_DATA,
    MESSAGE_ID,
    NOW,
    PARTS,
    PROOF_KEY,
    PROOF_KEY_TEXT,
    RELATES_TO,
    collection,
    envelope,
    lifetime,
    parts,
    response,
    token_reply,
)

EXPECTED = Expected(TokenRequest(APPLIES_TO), MESSAGE_ID, NOW)


def read(document: bytes, expected: Expected = EXPECTED) -> SecurityToken:
    content = read_envelope(document)
    assert not isinstance(content, Fault)
    return read_token(content, document, expected)


def refusal(document: bytes, expected: Expected = EXPECTED) -> str:
    try:
        read(document, expected)
    except (WsTrustError, XmlError) as error:
        refused = error
    else:
        pytest.fail("the reply was believed")
    assert PROOF_KEY_TEXT[:20] not in str(refused)
    return refused.code


def secret(inside: str) -> str:
    return f"<wst:RequestedProofToken><wst:BinarySecret>{inside}</wst:BinarySecret></wst:RequestedProofToken>"


def requested(inside: str) -> str:
    return f"<wst:RequestedSecurityToken>{inside}</wst:RequestedSecurityToken>"


def test_reads_the_response_as_it_was_recorded_from_the_service() -> None:
    assert read(token_reply()) == SecurityToken(
        assertion=ASSERTION.encode(),
        proof_key=PROOF_KEY,
        assertion_id="_a1",
        created_at=NOW,
        expires_at=NOW + timedelta(minutes=30),
    )


@settings(deadline=None)
@given(children=st.permutations(tuple(PARTS.values())), space=st.sampled_from(["", "\n", "\r\n\t ", "<!-- note -->"]))
def test_order_and_space_between_elements_mean_nothing(children: tuple[str, ...], space: str) -> None:
    document = envelope(space + collection(space + response(space + child for child in children) + space) + space)
    assert read(document) == read(token_reply())


@settings(deadline=None)
@given(
    prefixes=st.lists(st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True), min_size=4, max_size=4, unique=True).filter(
        lambda names: not any(name.startswith("xml") for name in names)
    )
)
def test_prefixes_mean_nothing_and_the_assertion_keeps_its_canonical_form(prefixes: list[str]) -> None:
    document = token_reply()
    for old, new in zip(("soap", "wst", "saml2", "xenc"), prefixes, strict=True):
        for before in (b"<", b"</", b"xmlns:"):
            after = b"=" if before == b"xmlns:" else b":"
            document = document.replace(before + old.encode() + after, before + f"{new}_".encode() + after)
    read_anew = read(document)
    assert replace(read_anew, assertion=b"") == replace(read(token_reply()), assertion=b"")
    original = canonical(parse(ASSERTION.encode())).decode()
    for old, new in zip(("saml2", "xenc"), prefixes[2:], strict=True):
        original = original.replace(f"{old}:", f"{new}_:").replace(f"xmlns:{old}", f"xmlns:{new}_")
    assert canonical(parse(read_anew.assertion)) == original.encode()


def test_reads_default_namespaces_as_the_service_definition_prints_them() -> None:
    inner = ENCRYPTED_DATA.replace("xenc:", "").replace("xmlns:xenc", "xmlns")
    assertion = f'<EncryptedAssertion xmlns="{Ns.SAML2}">{inner}</EncryptedAssertion>'
    document = token_reply(RequestedSecurityToken=requested(assertion))
    document = (
        document.replace(b"wst:", b"")
        .replace(b"xmlns:wst=", b"xmlns=")
        .replace(b"Envelope xmlns:soap", b"Envelope xmlns:soap")
    )
    assert read(document).assertion == assertion.encode()


def test_reads_the_nesting_that_the_service_definition_draws() -> None:
    children = "".join(text for name, text in PARTS.items() if name != "RequestedSecurityToken")
    document = envelope(collection(response([requested(ASSERTION + children)])))
    assert read(document) == read(token_reply())


def test_optional_elements_may_be_missing() -> None:
    gone = parts(TokenType="", AppliesTo="", RequestedAttachedReference="", RequestedUnattachedReference="")
    token = read(envelope(response(gone)))
    assert token.assertion_id == ""
    assert token.proof_key == PROOF_KEY


def test_mandatory_elements_that_the_recorded_response_leaves_out_are_read_when_they_are_there() -> None:
    more = f"<wst:KeyType>{Ns.WST}/SymmetricKey</wst:KeyType><wst:KeySize>512</wst:KeySize>"
    assert read(token_reply(TokenType=more)) == read(token_reply())


def test_reads_a_saml_1_1_token_which_has_no_wrapper() -> None:
    assert read(token_reply(RequestedSecurityToken=requested(ENCRYPTED_DATA))).assertion == ENCRYPTED_DATA.encode()


def test_the_unattached_reference_tells_the_id_where_the_attached_one_is_missing() -> None:
    assert read(token_reply(RequestedAttachedReference="")).assertion_id == "_a1"


class TestTheAssertion:
    def test_keeps_its_bytes_when_it_stands_alone(self) -> None:
        odd = ASSERTION.replace("<xenc:CipherData>", "<xenc:CipherData\n  >\n<!-- kept -->").replace(
            'Id="ED-1"', "Id='ED-1'"
        )
        assert read(token_reply(RequestedSecurityToken=requested(odd))).assertion == odd.encode()

    def test_gets_the_declarations_that_it_uses_when_they_stood_outside(self) -> None:
        bare = ASSERTION.replace(f' xmlns:saml2="{Ns.SAML2}"', "").replace(f' xmlns:xenc="{Ns.XENC}"', "")
        declared = f'<wst:RequestedSecurityToken xmlns:saml2="{Ns.SAML2}" xmlns:xenc="{Ns.XENC}">'
        outside = f"{declared}{bare}</wst:RequestedSecurityToken>"
        kept = read(token_reply(RequestedSecurityToken=outside)).assertion
        assert canonical(parse(kept)) == canonical(parse(ASSERTION.encode()))

    def test_keeps_a_declaration_that_only_a_value_uses_when_it_stood_outside(self) -> None:
        bare = ASSERTION.replace(f' xmlns:saml2="{Ns.SAML2}"', ' q:type="t:Sealed"')
        declared = f'<wst:RequestedSecurityToken xmlns:saml2="{Ns.SAML2}" xmlns:q="urn:q" xmlns:t="urn:types">'
        document = token_reply(RequestedSecurityToken=f"{declared}{bare}</wst:RequestedSecurityToken>")
        kept = read(document).assertion
        element = parse(kept)
        assert element.nsmap["t"] == "urn:types"
        original = next(parse(document).iter(Ns.SAML2("EncryptedAssertion")))
        assert canonical(element) == canonical(original)

    @settings(deadline=None)
    @given(outside=st.sets(st.sampled_from(["saml2", "xenc"])), space=st.sampled_from(["", "\n\t", "<!-- x -->"]))
    def test_has_the_canonical_form_it_had_in_the_response_wherever_its_prefixes_were_declared(
        self, outside: set[str], space: str
    ) -> None:
        uris = {"saml2": Ns.SAML2, "xenc": Ns.XENC}
        inside = ASSERTION
        for prefix in outside:
            inside = inside.replace(f' xmlns:{prefix}="{uris[prefix]}"', "")
        declared = "".join(f' xmlns:{prefix}="{uris[prefix]}"' for prefix in sorted(outside))
        document = token_reply(
            RequestedSecurityToken=f"<wst:RequestedSecurityToken{declared}>{space}{inside}</wst:RequestedSecurityToken>"
        )
        original = next(parse(document).iter(Ns.SAML2("EncryptedAssertion")))
        assert canonical(parse(read(document).assertion)) == canonical(original)

    @pytest.mark.parametrize("decoy", ["<saml2:EncryptedAssertion >", "</saml2:EncryptedAssertion>", ASSERTION])
    @pytest.mark.parametrize("wrap", [("<!--", "-->"), ("<wst:Note><![CDATA[", "]]></wst:Note>")])
    @pytest.mark.parametrize("place", ["TokenType", "Lifetime"])
    def test_is_never_taken_from_a_comment_or_character_data(
        self, decoy: str, wrap: tuple[str, str], place: str
    ) -> None:
        other = decoy.replace("U1lOVEhFVElD", "REVDT1k=")
        document = token_reply(**{place: f"{wrap[0]}{other}{wrap[1]}{PARTS[place]}{wrap[0]}{other}{wrap[1]}"})
        assert canonical(parse(read(document).assertion)) == canonical(parse(ASSERTION.encode()))

    def test_is_found_in_a_document_of_another_encoding(self) -> None:
        document = token_reply().decode().encode("utf-16")
        assert canonical(parse(read(document).assertion)) == canonical(parse(ASSERTION.encode()))

    def test_is_found_among_forty_thousand_decoys_before_the_test_times_out(self) -> None:
        empty = f'<xenc:EncryptedData xmlns:xenc="{Ns.XENC}"><xenc:CipherData/></xenc:EncryptedData >'
        decoys = f"<!--{'<xenc:EncryptedData ' * 40_000}-->"
        assert b"CipherData" in read(token_reply(RequestedSecurityToken=requested(empty), TokenType=decoys)).assertion

    @pytest.mark.parametrize(
        "inside",
        [
            "",
            f'<saml2:Assertion xmlns:saml2="{Ns.SAML2}"/>',
            f'<saml2:EncryptedAssertion xmlns:saml2="{Ns.SAML2}"/>',
            ASSERTION + ASSERTION.replace("ED-1", "ED-2"),
            ASSERTION + ENCRYPTED_DATA.replace("ED-1", "ED-2"),
            ENCRYPTED_DATA + ENCRYPTED_DATA.replace("ED-1", "ED-2"),
        ],
    )
    def test_must_be_one_and_encrypted(self, inside: str) -> None:
        assert refusal(token_reply(RequestedSecurityToken=requested(inside))) in {"wstrust.assertion", "wstrust.shape"}

    def test_may_not_have_a_twin_in_the_header(self) -> None:
        twin = ASSERTION.replace("ED-1", "ED-2")
        assert refusal(token_reply(header=RELATES_TO + twin)) == "wstrust.shape"


class TestTheProofKey:
    @pytest.mark.parametrize("kind", ["Nonce", "SymmetricKey", "anything"])
    def test_is_the_key_whatever_its_type_says(self, kind: str) -> None:
        document = token_reply(RequestedProofToken=PARTS["RequestedProofToken"].replace("/Nonce", f"/{kind}"))
        assert read(document).proof_key == PROOF_KEY

    @pytest.mark.parametrize(("size", "fits"), [(15, False), (16, True), (32, True), (128, True), (129, False)])
    def test_has_16_to_128_bytes(self, size: int, fits: bool) -> None:
        text = "AAAA" * (size // 3) + ["", "AA==", "AAA="][size % 3]
        document = token_reply(RequestedProofToken=secret(text))
        if fits:
            assert read(document).proof_key == bytes(size)
        else:
            assert refusal(document) == "wstrust.proof-key"

    def test_may_be_wrapped_in_lines(self) -> None:
        wrapped = f"\n  {PROOF_KEY_TEXT[:64]}\r\n  {PROOF_KEY_TEXT[64:]}\n"
        assert read(token_reply(RequestedProofToken=secret(wrapped))).proof_key == PROOF_KEY

    @pytest.mark.parametrize(
        "inside",
        [
            "",
            "****",
            PROOF_KEY_TEXT[:-1],
            f"{PROOF_KEY_TEXT[:40]}<!-- -->{PROOF_KEY_TEXT[40:]}",
            f"{PROOF_KEY_TEXT[:40]}<?pi?>{PROOF_KEY_TEXT[40:]}",
            f"<wst:Wrapped>{PROOF_KEY_TEXT}</wst:Wrapped>",
            PROOF_KEY_TEXT.replace("A", "\N{CYRILLIC CAPITAL LETTER A}", 1),
        ],
    )
    def test_must_be_plain_base64_without_comments_in_it(self, inside: str) -> None:
        assert refusal(token_reply(RequestedProofToken=secret(inside))) in {"wstrust.proof-key", "wstrust.shape"}

    @pytest.mark.parametrize(
        "proof",
        [
            "",
            "<wst:RequestedProofToken/>",
            PARTS["RequestedProofToken"] * 2,
            f"<wst:RequestedProofToken><wst:ComputedKey>{Ns.WST}/CK/PSHA1</wst:ComputedKey></wst:RequestedProofToken>",
            secret(f"{PROOF_KEY_TEXT}</wst:BinarySecret><wst:BinarySecret>{PROOF_KEY_TEXT}"),
            f"<wst:Entropy><wst:BinarySecret>{PROOF_KEY_TEXT}</wst:BinarySecret></wst:Entropy>",
        ],
    )
    def test_must_be_there_once_as_a_proof_token(self, proof: str) -> None:
        assert refusal(token_reply(RequestedProofToken=proof)) in {"wstrust.proof-key", "wstrust.shape"}

    def test_shows_in_no_repr(self) -> None:
        shown = repr(read(token_reply()))
        assert "proof_key" not in shown
        assert "assertion=" not in shown


CLIENT_NONCE = bytes(range(100, 132))
SERVER_NONCE = bytes(range(64, 96))
COMPUTED = f"<wst:RequestedProofToken><wst:ComputedKey>{Ns.WST}/CK/PSHA1</wst:ComputedKey></wst:RequestedProofToken>"
SERVER_ENTROPY = (
    f'<wst:Entropy><wst:BinarySecret Type="{Ns.WST}/Nonce">QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8='
    "</wst:BinarySecret></wst:Entropy>"
)
CONTRIBUTING = replace(EXPECTED, request=replace(EXPECTED.request, entropy=CLIENT_NONCE))


def chained(size: int) -> bytes:
    """P_SHA1 of both nonces, written out (RFC 2246, 5)."""
    steps = [SERVER_NONCE]
    for _ in range(7):
        steps.append(hmac.new(CLIENT_NONCE, steps[-1], "sha1").digest())
    return b"".join(hmac.new(CLIENT_NONCE, step + SERVER_NONCE, "sha1").digest() for step in steps[1:])[:size]


class TestTheComputedKey:
    @pytest.mark.parametrize("bits", [128, 256, 512, 1024])
    def test_is_made_of_both_sides_entropy_and_as_long_as_the_response_says(self, bits: int) -> None:
        proof = f"{COMPUTED}{SERVER_ENTROPY}<wst:KeySize>{bits}</wst:KeySize>"
        assert read(token_reply(RequestedProofToken=proof), CONTRIBUTING).proof_key == chained(bits // 8)

    @pytest.mark.parametrize(("asked", "size"), [(None, 32), (512, 64)])
    def test_is_as_long_as_was_asked_or_256_bits_where_the_response_does_not_say(
        self, asked: int | None, size: int
    ) -> None:
        expected = replace(CONTRIBUTING, request=replace(CONTRIBUTING.request, key_size=asked))
        document = token_reply(RequestedProofToken=SERVER_ENTROPY + COMPUTED)
        assert read(document, expected).proof_key == chained(size)

    def test_is_read_wherever_the_service_definition_draws_it(self) -> None:
        inside = "".join(text for name, text in PARTS.items() if not name.startswith("Requested"))
        nested = requested(ASSERTION + inside + COMPUTED + SERVER_ENTROPY)
        assert read(envelope(collection(response([nested]))), CONTRIBUTING).proof_key == chained(32)

    def test_gives_way_to_a_key_that_the_service_made_alone(self) -> None:
        assert read(token_reply(), CONTRIBUTING).proof_key == PROOF_KEY

    @pytest.mark.parametrize(
        ("proof", "expected"),
        [
            (COMPUTED, CONTRIBUTING),
            (COMPUTED + SERVER_ENTROPY, EXPECTED),
            (COMPUTED.replace("PSHA1", "HASH") + SERVER_ENTROPY, CONTRIBUTING),
            (COMPUTED + SERVER_ENTROPY * 2, CONTRIBUTING),
            (COMPUTED + SERVER_ENTROPY + "<wst:KeySize>64</wst:KeySize>", CONTRIBUTING),
            (COMPUTED + SERVER_ENTROPY + "<wst:KeySize>257</wst:KeySize>", CONTRIBUTING),
            (COMPUTED + SERVER_ENTROPY + "<wst:KeySize>99999</wst:KeySize>", CONTRIBUTING),
            (COMPUTED + SERVER_ENTROPY + "<wst:KeySize>many</wst:KeySize>", CONTRIBUTING),
            (COMPUTED + "<wst:Entropy><wst:BinarySecret>AAAA</wst:BinarySecret></wst:Entropy>", CONTRIBUTING),
            (COMPUTED.replace("</wst:ComputedKey>", f"</wst:ComputedKey>{PARTS['RequestedProofToken']}"), CONTRIBUTING),
        ],
    )
    def test_needs_both_sides_a_known_way_and_a_size(self, proof: str, expected: Expected) -> None:
        assert refusal(token_reply(RequestedProofToken=proof), expected) in {"wstrust.proof-key", "wstrust.shape"}

    def test_and_our_entropy_show_in_no_repr(self) -> None:
        assert "entropy" not in repr(CONTRIBUTING)


class TestTheLifetime:
    @pytest.mark.parametrize(
        ("expires", "seconds"),
        [
            ("2026-11-23T04:35:06Z", 1800),
            ("2026-11-23T04:35:06.1234567Z", 1800.123456),
            ("2026-11-23T14:35:06+10:00", 1800),
            ("2026-11-22T23:35:06-05:00", 1800),
            ("2026-11-24T04:05:06Z", 86400),
        ],
    )
    def test_is_read_in_any_offset_and_precision(self, expires: str, seconds: float) -> None:
        token = read(token_reply(Lifetime=lifetime("2026-11-23T04:05:06Z", expires)))
        assert token.expires_at == NOW + timedelta(seconds=seconds)

    def test_begins_now_where_the_beginning_is_missing(self) -> None:
        assert read(token_reply(Lifetime=lifetime(None, "2026-11-23T04:35:06Z"))).created_at == NOW

    @pytest.mark.parametrize(
        ("created", "expires"),
        [
            ("2026-11-23T03:00:00Z", "2026-11-23T04:05:06Z"),
            ("2026-11-23T04:05:06Z", "2026-11-24T04:05:07Z"),
            ("2026-11-23T04:05:06Z", "9999-12-31T23:59:59Z"),
            ("2026-11-23T04:36:00Z", "2026-11-23T04:35:06Z"),
            (None, None),
            ("2026-11-23T04:05:06Z", None),
        ],
    )
    def test_that_is_over_or_absurd_or_unsaid_is_refused(self, created: str | None, expires: str | None) -> None:
        assert refusal(token_reply(Lifetime=lifetime(created, expires))) == "wstrust.lifetime"

    @pytest.mark.parametrize(
        "expires",
        [
            "",
            "tomorrow",
            "2026-11-23T04:35:06",
            "2026-13-23T04:35:06Z",
            "2026-11-23T04:35:06+99:00",
            "2026-11-23<!---->",
        ],
    )
    def test_that_is_no_date_with_an_offset_is_refused(self, expires: str) -> None:
        assert refusal(token_reply(Lifetime=lifetime(None, expires))) == "wstrust.shape"

    @pytest.mark.parametrize("expires", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
    def test_at_the_end_of_the_calendar_is_refused(self, expires: str) -> None:
        assert refusal(token_reply(Lifetime=lifetime(None, expires))) == "wstrust.shape"

    def test_may_not_be_said_twice(self) -> None:
        assert refusal(token_reply(Lifetime=PARTS["Lifetime"] * 2)) == "wstrust.shape"


class TestTheAnswerIsOurs:
    @pytest.mark.parametrize(
        "header",
        [
            "",
            "<wsa:RelatesTo>urn:uuid:of-another-request</wsa:RelatesTo>",
            RELATES_TO * 2,
            f"<wsa:Wrapper>{RELATES_TO}</wsa:Wrapper>",
            RELATES_TO.replace("1111", "<!-- -->1111", 1),
        ],
    )
    def test_only_when_it_relates_to_our_request(self, header: str) -> None:
        assert refusal(token_reply(header=header)) in {"wstrust.relates-to", "wstrust.shape"}

    def test_only_when_it_is_for_our_relying_party(self) -> None:
        other = PARTS["AppliesTo"].replace(APPLIES_TO, "https://another.invalid")
        assert refusal(token_reply(AppliesTo=other)) == "wstrust.applies-to"

    @pytest.mark.parametrize(
        ("asked", "said", "ours"),
        [
            ("https://a.invalid/services/lodge", "https://a.invalid/services", True),
            ("https://a.invalid/services/lodge", "https://a.invalid/services/", True),
            ("https://a.invalid/services", "HTTPS://A.invalid/services/", True),
            ("https://a.invalid/services", "https://a.invalid", True),
            ("https://a.invalid/services", "https://a.invalid/services/lodge", False),
            ("https://a.invalid/services", "https://a.invalid/serv", False),
            ("https://a.invalid/services", "http://a.invalid/services", False),
            ("https://a.invalid/services", "https://a.invalid:444/services", False),
            ("https://a.invalid/services", "https://a.invalid/services?x=1", False),
            ("https://a.invalid/services", "https://[a.invalid/services", False),
            ("urn:party:a:b", "urn:party:a", False),
            ("urn:party:a", "urn:party:a", True),
        ],
    )
    def test_only_for_our_relying_party_or_the_root_under_which_it_is_registered(
        self, asked: str, said: str, ours: bool
    ) -> None:
        expected = replace(EXPECTED, request=TokenRequest(asked))
        document = token_reply(AppliesTo=PARTS["AppliesTo"].replace(APPLIES_TO, said))
        if ours:
            assert read(document, expected).proof_key == PROOF_KEY
        else:
            assert refusal(document, expected) == "wstrust.applies-to"

    def test_only_when_it_gives_our_context_back(self) -> None:
        expected = replace(EXPECTED, request=replace(EXPECTED.request, context="urn:a"))
        good = envelope(response(attributes=' Context="urn:a"'))
        assert read(good, expected) == read(token_reply(), expected)
        assert refusal(envelope(response(attributes=' Context="urn:b"')), expected) == "wstrust.context"
        assert refusal(good) == "wstrust.context"

    @pytest.mark.parametrize("kind", ["TokenType", "KeyType"])
    def test_only_when_the_token_and_its_key_are_of_the_kind_that_was_asked_for(self, kind: str) -> None:
        assert refusal(token_reply(TokenType=f"<wst:{kind}>urn:other</wst:{kind}>")) == "wstrust.token-type"


class TestTheShape:
    def test_of_two_responses_is_refused(self) -> None:
        second = response(parts(RequestedSecurityToken=""))
        assert refusal(envelope(collection(response(), second))) == "wstrust.shape"

    def test_of_a_second_response_anywhere_is_refused(self) -> None:
        assert refusal(token_reply(header=RELATES_TO + response([]))) == "wstrust.shape"

    def test_of_a_body_moved_under_a_header_is_refused(self) -> None:
        whole = etree.fromstring(token_reply())
        wrapper = etree.SubElement(whole[0], "{urn:attacker}Wrapper")
        wrapper.append(whole[1])
        assert refusal(etree.tostring(whole)) == "soap.body"
        etree.SubElement(etree.SubElement(whole, Ns.SOAP("Body")), Ns.WST("RequestSecurityTokenResponse"))
        assert refusal(etree.tostring(whole)) == "wstrust.shape"

    @pytest.mark.parametrize("name", ["Id", "ID", "id"])
    def test_of_an_id_that_stands_twice_is_refused(self, name: str) -> None:
        document = token_reply(header=f'{RELATES_TO}<wsa:Extra {name}="ED-1"/>')
        assert refusal(document) == "wstrust.shape"
        assert refusal(token_reply(header=f'<wsa:Extra {name}="ED-1"/>{RELATES_TO}')) == "wstrust.shape"

    def test_of_a_document_type_is_refused_before_anything_is_resolved(self) -> None:
        assert refusal(b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/never">' + token_reply()) == "xml.doctype"

    @pytest.mark.parametrize("body", ["", "<wst:Other/>", collection(), "<wst:RequestSecurityTokenResponse/>" * 2])
    def test_without_a_response_is_refused(self, body: str) -> None:
        assert refusal(envelope(body)) in {"wstrust.shape", "wstrust.relates-to", "soap.body"}

    @settings(deadline=None)
    @given(st.binary(max_size=300))
    def test_of_noise_is_refused(self, noise: bytes) -> None:
        with pytest.raises(XmlError):
            read_envelope(noise)
