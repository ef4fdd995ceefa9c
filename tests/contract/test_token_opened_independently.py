"""The tokens of our own token service, opened and judged without its code: by cryptography, signxml, Santuario."""

import uuid
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from pipeline.channels import mas_st
from pipeline.lodgment.references import TokenKey
from pipeline.protocol.key_files import read_credentials
from pipeline.protocol.keystore import select
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.wstrust import SecurityToken
from pipeline.sandbox.home import APPLIES_TO, Home
from pipeline.sandbox.sts import STS_PATH, TokenService
from pipeline.sandbox.sts_script import Variant
from tests.oracles.java_verifiers import Wss4j
from tests.oracles.python_verifiers import RSA_SHA256, by_signxml, opened, proof_key_of
from tests.services.sandbox_home import new_home

CLAIM = "http://vanguard.ebusiness.gov.au/2008/06/identity/claims/"


@pytest.fixture(scope="module")
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return new_home(tmp_path_factory.mktemp("opened") / "home")


def token_of(home: Home, now: datetime, variant: Variant = Variant.RECORDED, size: int = 64) -> SecurityToken:
    credentials = read_credentials(home.keystore_file.read_bytes(), home.keystore_password_file.read_text())
    own = select(credentials, home.credential().id)
    key = TokenKey("sandbox", f"https://localhost{STS_PATH}", APPLIES_TO, own.id, None, None, mas_st.CLAIMS, 512)
    nonce = uuid.uuid4()
    sent = mas_st.request(mas_st.StsProfile(), own, key, f"urn:uuid:{nonce}", now, nonce.hex)
    reply = TokenService(home, variant, size).answer(sent.body, STS_PATH, now)
    token = mas_st.read_reply(sent, reply.status, reply.body, now)
    assert isinstance(token, SecurityToken)
    return token


@pytest.mark.parametrize("variant", Variant)
@pytest.mark.parametrize("size", [16, 32, 64])
def test_the_relying_party_reads_the_same_key_and_claims_with_cryptography_and_signxml(
    home: Home, now: datetime, variant: Variant, size: int
) -> None:
    token = token_of(home, now, variant, size)
    assertion = opened(token.assertion, home.relying_party.key)
    assert proof_key_of(assertion, home.relying_party.key) == token.proof_key
    assert len(token.proof_key) == size

    (covered,) = by_signxml(assertion, home.sts.certificate, now, references=1)
    signed = etree.fromstring(covered)
    assert signed.tag == Ns.SAML2("Assertion")
    assert token.assertion_id in {signed.get("ID"), ""}
    claims = {one.get("Name"): one[0].text for one in signed.iter(Ns.SAML2("Attribute"))}
    assert claims[f"{CLAIM}abn"] == home.credential().abn
    assert claims[f"{CLAIM}commonname"] == home.credential().name
    assert signed.findtext(f".//{Ns.SAML2('Audience')}") == APPLIES_TO


@pytest.mark.parametrize("variant", Variant)
def test_santuario_and_the_jdk_read_the_same_key_and_claims(
    wss4j: Wss4j, home: Home, now: datetime, variant: Variant
) -> None:
    token = token_of(home, now, variant)
    issuer = home.sts.certificate.public_bytes(Encoding.DER)
    verdict = wss4j.open(token.assertion, home.relying_party.key, issuer)
    (signature,) = verdict.signatures
    assert signature.method == RSA_SHA256
    ((covered, covered_id),) = signature.covers
    assert covered == Ns.SAML2("Assertion")
    assert token.assertion_id in {covered_id, ""}
    assert verdict.facts("claim")[f"{CLAIM}abn"] == home.credential().abn
    assert bytes.fromhex(verdict.facts("proof-key").popitem()[0]) == token.proof_key

    other = home.authority.public_bytes(Encoding.DER)
    assert "signature does not hold" in wss4j.open(token.assertion, home.relying_party.key, other).reason
