"""Certificates that the library takes and refuses later: each is one named error, at once."""

from base64 import b64encode, encodebytes

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from pipeline.evidence.signing import read_signer
from pipeline.lodgment.errors import RefusedError
from pipeline.protocol.as4_signed_info import As4SignatureError
from pipeline.protocol.as4_verify import PUSH_POLICY, verify_message
from pipeline.protocol.certificates import CertificateError, public_key_of, read_der, read_pem
from tests.doubles import as4, asic

DER = asic.make_credential().certificate_der
VERSION_3 = bytes.fromhex("A003020102")
NAME = asic.ABN.encode()
RSA_KEY = bytes.fromhex("06092A864886F70D0101010500")
"""rsaEncryption and its NULL: in a certificate it stands once, in the SubjectPublicKeyInfo."""


def bent(old: bytes, new: bytes) -> bytes:
    assert len(old) == len(new)
    assert old in DER
    return DER.replace(old, new)


OF_VERSION_9 = bent(VERSION_3, bytes.fromhex("A003020108"))
NAME_NO_TEXT = bent(b"\x0c\x0b" + NAME, b"\x0c\x0b" + b"\xff" * len(NAME))
UNKNOWN_KEY = bent(RSA_KEY, bytes.fromhex("06092A864886F70D0101630500"))


def pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + encodebytes(der) + b"-----END CERTIFICATE-----\n"


def test_a_good_one_is_read_from_either_form() -> None:
    expected = asic.make_credential().certificate
    assert read_der(DER) == expected
    assert read_pem(expected.public_bytes(Encoding.PEM)) == [expected]
    assert public_key_of(expected) == expected.public_key()


@pytest.mark.parametrize("der", [OF_VERSION_9, NAME_NO_TEXT, b"", DER[:-1]], ids=["version", "name", "empty", "cut"])
def test_one_that_cannot_be_read_through_is_refused_at_once(der: bytes) -> None:
    with pytest.raises(CertificateError):
        read_der(der)
    with pytest.raises(CertificateError):
        read_pem(pem(der))


def test_a_key_of_an_unknown_kind_is_refused_when_it_is_asked_for() -> None:
    with pytest.raises(CertificateError):
        public_key_of(read_der(UNKNOWN_KEY))


def test_an_error_quotes_nothing_of_the_file() -> None:
    """Where the dashes of a first line are missing, the library takes the key for a part of its name."""
    line = "QUFB" * 16
    with pytest.raises(CertificateError) as found:
        read_pem(f"-----BEGIN PRIVATE KEY\n{line}\n-----END PRIVATE KEY-----\n".encode() + pem(DER))
    assert line not in str(found.value)


@pytest.mark.parametrize("der", [OF_VERSION_9, NAME_NO_TEXT, UNKNOWN_KEY], ids=["version", "name", "key"])
def test_a_message_signed_by_such_a_one_is_refused_by_name(der: bytes) -> None:
    sealed = as4.sealed()
    soap = sealed.envelope.soap.replace(b64encode(DER), b64encode(der))
    with pytest.raises(As4SignatureError) as found:
        verify_message(soap, sealed.attachments, PUSH_POLICY, lambda named: named)
    assert found.value.code == "as4.certificate"


@pytest.mark.parametrize("der", [OF_VERSION_9, NAME_NO_TEXT, UNKNOWN_KEY], ids=["version", "name", "key"])
def test_evidence_signed_by_such_a_one_is_refused_by_name(der: bytes) -> None:
    with pytest.raises(RefusedError) as found:
        read_signer(pem(der))
    assert found.value.code == "evidence.signer"
