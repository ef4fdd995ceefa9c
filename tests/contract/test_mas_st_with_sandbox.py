"""Our side of MAS-ST against the sandbox's, which judges requests with xmlsec and shares no code with their writer."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from pipeline.channels import mas_st
from pipeline.lodgment.failures import Failure
from pipeline.lodgment.references import TokenKey
from pipeline.protocol.credential import Credential
from pipeline.protocol.key_files import read_credentials
from pipeline.protocol.keystore import KeystoreError, select
from pipeline.protocol.wstrust import SecurityToken
from pipeline.sandbox.home import APPLIES_TO, Home, Standing, open_home
from pipeline.sandbox.sts import STS_PATH, TokenService
from pipeline.sandbox.sts_script import Variant

NOW = datetime(2026, 11, 23, 4, 5, 6, tzinfo=UTC)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return open_home(tmp_path_factory.mktemp("mas_st") / "home", NOW)


@pytest.fixture(scope="session")
def credentials(home: Home) -> tuple[Credential, ...]:
    return read_credentials(home.keystore_file.read_bytes(), home.keystore_password_file.read_text())


class Client:
    """Asks a token service without a wire between."""

    def __init__(self, service: TokenService, credential: Credential) -> None:
        self._service = service
        self._credential = credential
        self.key = TokenKey(
            "sandbox", f"https://localhost{STS_PATH}", APPLIES_TO, credential.id, None, None, mas_st.CLAIMS, 512
        )

    def ask(self, key: TokenKey, ours: datetime = NOW, skew: timedelta = timedelta(0)) -> SecurityToken | Failure:
        """`ours` is what our clock shows; the service's shows `NOW`."""
        nonce = uuid4()
        profile = mas_st.StsProfile()
        sent = mas_st.request(profile, self._credential, key, f"urn:uuid:{nonce}", ours, nonce.hex, skew)
        reply = self._service.answer(sent.body, STS_PATH, NOW)
        return mas_st.read_reply(sent, reply.status, reply.body, ours)


def client(
    home: Home,
    credentials: tuple[Credential, ...],
    standing: Standing = Standing.GOOD,
    service: TokenService | None = None,
) -> Client:
    return Client(service or TokenService(home), select(credentials, home.credential(standing).id))


@pytest.mark.parametrize("size", [16, 32, 64, 128])
@pytest.mark.parametrize("variant", Variant)
def test_gets_a_token_in_every_arrangement_and_key_size(
    home: Home, credentials: tuple[Credential, ...], variant: Variant, size: int
) -> None:
    asking = client(home, credentials, service=TokenService(home, variant, size))
    token = asking.ask(asking.key)
    assert isinstance(token, SecurityToken)
    assert len(token.proof_key) == size
    assert (token.assertion_id == "") is (variant is Variant.SPARSE)
    assert token.expires_at == NOW + timedelta(minutes=30)


def test_gets_a_token_on_behalf_of_a_client(home: Home, credentials: tuple[Credential, ...]) -> None:
    asking = client(home, credentials)
    key = replace(asking.key, second_party="51824753556", software_id="0000123400")
    assert isinstance(asking.ask(key), SecurityToken)


@pytest.mark.parametrize(
    ("standing", "code"),
    [(Standing.EXPIRED, "E2015"), (Standing.REVOKED, "E2014"), (Standing.UNKNOWN, "E2169")],
)
def test_a_credential_that_is_not_good_is_told_by_its_code(
    home: Home, credentials: tuple[Credential, ...], standing: Standing, code: str
) -> None:
    asking = client(home, credentials, standing)
    refused = asking.ask(asking.key)
    assert isinstance(refused, Failure)
    assert refused.code == code


def test_an_unknown_relying_party_and_an_unknown_mandatory_claim_are_told_by_their_codes(
    home: Home, credentials: tuple[Credential, ...]
) -> None:
    asking = client(home, credentials)
    relying_party = asking.ask(replace(asking.key, applies_to="https://another.invalid"))
    assert isinstance(relying_party, Failure)
    assert relying_party.code == "E2003"
    surname = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/surname"
    nonce = uuid4()
    profile = mas_st.StsProfile(mandatory_claims=frozenset({surname}))
    credential = select(credentials, home.credential().id)
    sent = mas_st.request(profile, credential, asking.key, f"urn:uuid:{nonce}", NOW, nonce.hex)
    reply = TokenService(home).answer(sent.body, STS_PATH, NOW)
    claim = mas_st.read_reply(sent, reply.status, reply.body, NOW)
    assert isinstance(claim, Failure)
    assert claim.code == "E2182"


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_clock_ten_minutes_off_is_blamed_and_then_corrected(
    home: Home, credentials: tuple[Credential, ...], minutes: int
) -> None:
    asking = client(home, credentials)
    ours = NOW + timedelta(minutes=minutes)
    refused = asking.ask(asking.key, ours)
    assert isinstance(refused, Failure)
    assert mas_st.blames_the_clock(refused)
    skew = mas_st.clock_skew(NOW, ours, ours + timedelta(milliseconds=300))
    token = asking.ask(asking.key, ours, skew)
    assert isinstance(token, SecurityToken)
    assert abs(token.expires_at - ours - timedelta(minutes=30)) < timedelta(seconds=5)


def test_the_keystore_of_the_sandbox_opens_with_its_password_only(home: Home) -> None:
    with pytest.raises(KeystoreError, match="cannot unlock"):
        read_credentials(home.keystore_file.read_bytes(), "another")
