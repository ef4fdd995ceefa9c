"""Keys and what is sealed with them: keystores, PEM, PKCS#12, BER, secrets in files, sealed blobs."""

import re
from collections.abc import Sequence
from functools import cache

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    pkcs12,
)

from pipeline.evidence.signing import load_signing_key, read_signer, read_vouchers
from pipeline.ledger.vault import Vault
from pipeline.lodgment.errors import ConfigurationError, RefusedError
from pipeline.protocol import ber, key_files
from pipeline.protocol.keystore import KeystoreError, Unusable
from pipeline.protocol.synthetic_keystore import Vintage, write
from tests.doubles.evidence_keys import KINDS, certificate_of, key_of, pem_of, public_pem
from tests.doubles.synthetic_credentials import credential, raw, user_credential
from tests.fuzz.mutation import DER, XML, Form
from tests.fuzz.scratch import file_of
from tests.fuzz.target import Target, must

PASSWORD = "Synthetic-Password-1"
_PEM = Form(
    (*XML.pieces[:1], *Form().pieces),
    (b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN PRIVATE KEY-----\n"),
    holds_base64=True,
)
_ENCODED = re.compile(rb"[A-Za-z0-9+/]{20,}")
_CONTEXT = b"synthetic"


@cache
def _keystores() -> tuple[bytes, ...]:
    both = [credential(), user_credential()]
    return write(both[:1], PASSWORD, b"synthetic"), write(
        both, PASSWORD, b"synthetic", Vintage(indefinite_length=False)
    )


def _key_file(data: bytes) -> None:
    for entry in key_files.read_entries(data, PASSWORD):
        text = str(entry.error) if isinstance(entry, Unusable) else repr(entry)
        must(PASSWORD not in text and "PRIVATE" not in text, "no password and no key is shown")


def _pem_file(data: bytes) -> None:
    try:
        _key_file(data)
    except KeystoreError as error:
        quotes = any(line.decode() in str(error) for line in _ENCODED.findall(data))
        must(not quotes, "no line of the file is quoted, it may be a key's")
        raise


@cache
def _pems() -> tuple[bytes, ...]:
    one = credential()
    key = raw(one.private_key)
    certificates = b"".join(each.public_bytes(Encoding.PEM) for each in (one.certificate, *one.chain))
    plain_key = pem_of(key)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD.encode()))
    return certificates + sealed, plain_key + certificates


@cache
def _pkcs12s() -> tuple[bytes, ...]:
    one = credential()
    sealing = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(10).build(PASSWORD.encode())
    store = pkcs12.serialize_key_and_certificates(b"a", raw(one.private_key), one.certificate, one.chain, sealing)
    return (store,)


def _ber_seeds() -> Sequence[bytes]:
    inner = ber.encode(ber.SEQUENCE, ber.encode_integer(300), ber.encode(ber.OCTET_STRING, b"a" * 200))
    return inner, ber.encode_indefinite(ber.SEQUENCE, inner, ber.encode_indefinite(ber.CONTEXT_0, inner))


def _ber(data: bytes) -> None:
    found = ber.read(data)
    must(data.startswith(found.encoded), "an element is the bytes it was read from")
    again = ber.read(ber.encode(found.tag, found.content))
    must((again.tag, again.content) == (found.tag, found.content), "written in DER it is the same element")
    if found.tag & 0x20:
        inside = list(ber.children(found))
        must(b"".join(one.encoded for one in inside) == found.content, "the children are all of the content")


@cache
def _signers() -> tuple[bytes, ...]:
    keys = [key_of(kind) for kind in KINDS]
    certificates = [pem_of(certificate_of(key, "operator")) for key in keys]
    return (*certificates, *(public_pem(key) for key in keys), *(pem_of(key) for key in keys))


def _signer(data: bytes) -> None:
    path = file_of("signer.pem", data)
    said = []
    for read in (lambda: read_signer(data), lambda: read_vouchers(path), lambda: load_signing_key(path, None)):
        try:
            said.append(read())
        except (RefusedError, ConfigurationError) as error:
            must("PRIVATE" not in str(error), "no key is quoted")


@cache
def _vault() -> Vault:
    return Vault([b"synthetic master key, 32 bytes!!"])


@cache
def _sealed() -> tuple[bytes, ...]:
    return _vault().seal(b"a document", _CONTEXT), _vault().seal_pieces((b"another", b" one" * 100), _CONTEXT)


def _blob(data: bytes) -> None:
    said: list[bytes | str] = []
    for read in (_vault().open, lambda blob, context: b"".join(_vault().open_pieces(blob, context))):
        try:
            said.append(read(data, _CONTEXT))
        except (RefusedError, ConfigurationError) as error:
            said.append(error.code)
    must(said[0] == said[1], "whole and in pieces it opens to the same")
    must(isinstance(said[0], str) or data in _sealed(), "nothing opens that we did not seal")


TARGETS = (
    Target("keystore", "no password, no key in any text", _keystores, _key_file, (KeystoreError,), XML, (PASSWORD,)),
    Target("pem", "no password, no key in any text", _pems, _pem_file, (KeystoreError,), _PEM, (PASSWORD,)),
    Target("pkcs12", "no password, no key in any text", _pkcs12s, _key_file, (KeystoreError,), DER, (PASSWORD,)),
    Target("ber", "an element written is the element that was read", _ber_seeds, _ber, (ber.BerError,), DER),
    Target("evidence-keys", "signers, vouchers and signing keys", _signers, _signer, (), _PEM),
    Target("sealed-blob", "nothing opens that was not sealed; whole as in pieces", _sealed, _blob),
)
