"""Reading a RequestSecurityTokenResponse (WS-Trust 1.3, 3.2): lenient about its shape, strict about whose answer it is.

MAS-ST does not sign its responses. TLS says who speaks; what can be checked here is that the response answers our
request, says each thing once, and carries a key and an assertion that can be used.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from lxml import etree

from pipeline.protocol.fragments import spliceable
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.psha1 import COMPUTED_KEY_ALGORITHM, p_sha1
from pipeline.protocol.timestamps import instant_of
from pipeline.protocol.wstrust import KEY_BYTES, SYMMETRIC_KEY, SecurityToken, TokenRequest, WsTrustError
from pipeline.protocol.xml import XmlError, canonical, ids_of, local_name, parse, text_of

LONGEST_BELIEVABLE_LIFETIME = timedelta(hours=24)
_USUAL_KEY_BITS = 256
"""Of a symmetric key whose size nobody names (MAS-ST 4.1.2.6)."""
_ASSERTIONS = (Ns.SAML2("EncryptedAssertion"), Ns.XENC("EncryptedData"))
"""A SAML 2.0 token, and a SAML 1.1 token, which is encrypted without a wrapper."""
_ONCE = (
    Ns.SOAP("Body"),
    Ns.WST("RequestSecurityTokenResponse"),
    Ns.WST("RequestedSecurityToken"),
    Ns.WST("RequestedProofToken"),
    Ns.SAML2("EncryptedAssertion"),
)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a response must answer: the request, and the message that carried it."""

    request: TokenRequest
    message_id: str
    now: datetime
    """On the token service's clock as well as it is known."""


def read_token(content: etree._Element, document: bytes, expected: Expected) -> SecurityToken:
    """The token in `document`; `content` is the child of its SOAP body.

    Of what MAS-ST calls mandatory (4.1.3), the response recorded from it leaves out KeyType, KeySize and RequestType;
    elements may stand in any order, and inside RequestedSecurityToken as the service definition draws them.

    Raises:
        WsTrustError: `wstrust.shape`, `wstrust.relates-to`, `wstrust.applies-to`, `wstrust.context`,
            `wstrust.token-type`, `wstrust.lifetime`, `wstrust.proof-key` or `wstrust.assertion`.
    """
    envelope = content.getroottree().getroot()
    try:
        ids_of(envelope)
        response = _response(envelope, content)
        _check_relates_to(envelope, expected.message_id)
        _check_echoes(response, expected.request)
        created, expires = _lifetime(response, expected.now)
        assertion = _assertion(response)
        return SecurityToken(
            assertion=_as_it_stood(assertion, document),
            proof_key=_proof_key(response, expected.request),
            assertion_id=_assertion_id(response),
            created_at=created,
            expires_at=expires,
        )
    except XmlError as error:
        raise WsTrustError("wstrust.shape", f"the response cannot be read: {error}") from error


def _response(root: etree._Element, content: etree._Element) -> etree._Element:
    """The one response, where WS-Trust puts it: the body's child, or in the collection there."""
    for name in _ONCE:
        if sum(1 for _ in root.iter(name)) > 1:
            raise WsTrustError("wstrust.shape", f"more than one {etree.QName(name).localname} in the response")
    response: etree._Element | None = content
    if content.tag == Ns.WST("RequestSecurityTokenResponseCollection"):
        response = content.find(Ns.WST("RequestSecurityTokenResponse"))
    if response is None or response.tag != Ns.WST("RequestSecurityTokenResponse"):
        raise WsTrustError("wstrust.shape", "the body holds no RequestSecurityTokenResponse")
    return response


def _check_relates_to(root: etree._Element, message_id: str) -> None:
    """A token that answers another request would be used for the wrong employer, so RelatesTo may not be missing.

    A reply must carry it (WS-Addressing 1.0 Core, 3.4).
    """
    related = [text_of(element) for element in root.iterfind(f"{Ns.SOAP('Header')}/{Ns.WSA('RelatesTo')}")]
    if related != [message_id]:
        raise WsTrustError(
            "wstrust.relates-to", "the response does not say that it answers our request (wsa:RelatesTo)"
        )


def _check_echoes(response: etree._Element, request: TokenRequest) -> None:
    """What the response repeats must be what was asked; what it leaves out is not missed."""
    if response.get("Context", request.context) != request.context:
        raise WsTrustError("wstrust.context", "the response carries another Context than our request")
    applies_to = _only(response, Ns.WSP("AppliesTo"))
    address = None if applies_to is None else _only(applies_to, Ns.WSA("Address"))
    if address is not None and not _covers(text_of(address), request.applies_to):
        raise WsTrustError("wstrust.applies-to", f"the token is not for {request.applies_to}")
    expected = ((Ns.WST("TokenType"), request.token_type), (Ns.WST("KeyType"), SYMMETRIC_KEY))
    for name, value in expected:
        element = _only(response, name)
        if element is not None and text_of(element) != value:
            raise WsTrustError("wstrust.token-type", f"{local_name(element)} of the response is not {value}")


def _covers(audience: str, wanted: str) -> bool:
    """Whether a token for `audience` is for the relying party `wanted`.

    It is an echo (MAS-ST 4.1.3.4), but the service matches relying parties by the beginning of their address: the
    registered root may come back for an address below it, never an address below the one that was asked for.
    """
    if audience == wanted:
        return True
    try:
        ours, theirs = urlsplit(wanted), urlsplit(audience)
    except ValueError:
        return False
    if (ours.scheme.lower(), ours.netloc.lower()) != (theirs.scheme.lower(), theirs.netloc.lower()) or not ours.netloc:
        return False
    root = theirs.path.rstrip("/")
    return not theirs.query and (ours.path.rstrip("/") == root or ours.path.startswith(f"{root}/"))


def _lifetime(response: etree._Element, now: datetime) -> tuple[datetime, datetime]:
    lifetime = _only(response, Ns.WST("Lifetime"))
    expires = None if lifetime is None else _only(lifetime, Ns.WSU("Expires"))
    if lifetime is None or expires is None:
        raise WsTrustError("wstrust.lifetime", "the response does not say when its token expires")
    created = _only(lifetime, Ns.WSU("Created"))
    begin = now if created is None else instant_of(created)
    end = instant_of(expires)
    if end <= now:
        raise WsTrustError("wstrust.lifetime", f"the token expired at {end.isoformat()}: compare this machine's clock")
    if end > now + LONGEST_BELIEVABLE_LIFETIME or end <= begin:
        raise WsTrustError("wstrust.lifetime", f"a token from {begin.isoformat()} to {end.isoformat()} is not believed")
    return begin, end


def _assertion(response: etree._Element) -> etree._Element:
    requested = _only(response, Ns.WST("RequestedSecurityToken"))
    if requested is None:
        raise WsTrustError("wstrust.assertion", "the response holds no RequestedSecurityToken")
    found = [child for child in requested if child.tag in _ASSERTIONS]
    if len(found) != 1:
        raise WsTrustError("wstrust.assertion", f"{len(found)} encrypted assertions in the response, not one")
    (assertion,) = found
    if assertion.find(f".//{Ns.XENC('CipherData')}") is None:
        raise WsTrustError("wstrust.assertion", "the assertion is not encrypted")
    return assertion


def _as_it_stood(assertion: etree._Element, document: bytes) -> bytes:
    """The assertion's own bytes, where they stand alone; else the same element with what it needs from its ancestors.

    The bytes are looked up by name, and kept only if they are proved to be the same element: the name may also occur in
    a comment, or the document be encoded otherwise. Either way its exclusive canonical form, over which relying parties
    check signatures, is the one that it had in the response.
    """
    form = canonical(assertion)
    found = _slice(assertion, document)
    for candidate in (found, spliceable(assertion)):
        if candidate is not None and _is(candidate, form):
            return candidate
    return form


def _slice(assertion: etree._Element, document: bytes) -> bytes | None:
    prefix = f"{assertion.prefix}:" if assertion.prefix else ""
    name = f"{prefix}{local_name(assertion)}".encode()
    start = re.search(rb"<%s[\s>]" % re.escape(name), document)
    closing = document.rfind(b"</" + name)
    if start is None or closing < start.start():
        return None
    return document[start.start() : document.find(b">", closing) + 1]


def _is(candidate: bytes, form: bytes) -> bool:
    try:
        return canonical(parse(candidate)) == form
    except XmlError:
        return False


def _proof_key(response: etree._Element, request: TokenRequest) -> bytes:
    """The key as its BinarySecret gives it, whatever its Type: MAS-ST says `Nonce` and means the key.

    Where the proof token names an algorithm instead, both sides computed it (WS-Trust 1.3, 4.4.4).
    """
    proof = _only(response, Ns.WST("RequestedProofToken"))
    computed = None if proof is None else _only(proof, Ns.WST("ComputedKey"))
    if computed is not None and proof is not None and _only(proof, Ns.WST("BinarySecret")) is None:
        return _computed_key(response, text_of(computed), request)
    secret = None if proof is None else _only(proof, Ns.WST("BinarySecret"))
    if secret is None or computed is not None:
        raise WsTrustError("wstrust.proof-key", "the response holds no single BinarySecret as proof key")
    return _secret(secret)


def _computed_key(response: etree._Element, algorithm: str, request: TokenRequest) -> bytes:
    if algorithm != COMPUTED_KEY_ALGORITHM:
        raise WsTrustError("wstrust.proof-key", "the proof key is to be computed in another way than P_SHA1")
    theirs = _only(response, Ns.WST("Entropy"))
    secret = None if theirs is None else _only(theirs, Ns.WST("BinarySecret"))
    if secret is None or request.entropy is None:
        raise WsTrustError("wstrust.proof-key", "the proof key is to be computed, and one side gave no entropy for it")
    return p_sha1(request.entropy, _secret(secret), _key_bytes(response, request))


def _key_bytes(response: etree._Element, request: TokenRequest) -> int:
    element = _only(response, Ns.WST("KeySize"))
    said = str(request.key_size or _USUAL_KEY_BITS) if element is None else text_of(element)
    if not (said.isascii() and said.isdigit() and len(said) <= 4) or int(said) % 8 or int(said) // 8 not in KEY_BYTES:
        raise WsTrustError("wstrust.proof-key", "the KeySize of the response is not one of 128 to 1024 bits")
    return int(said) // 8


def _secret(element: etree._Element) -> bytes:
    try:
        key = base64.b64decode("".join(text_of(element).split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise WsTrustError("wstrust.proof-key", "a BinarySecret is not plain base64 text") from error
    if len(key) not in KEY_BYTES:
        raise WsTrustError("wstrust.proof-key", f"a BinarySecret has {len(key)} bytes, not 16 to 128")
    return key


def _assertion_id(response: etree._Element) -> str:
    """The id that only the references show, because the assertion is encrypted (SAML token profile 1.1, 3.4)."""
    for name in (Ns.WST("RequestedAttachedReference"), Ns.WST("RequestedUnattachedReference")):
        reference = _only(response, name)
        identifier = None if reference is None else _only(reference, Ns.WSSE("KeyIdentifier"))
        if identifier is not None:
            return text_of(identifier)
    return ""


def _only(parent: etree._Element, name: str) -> etree._Element | None:
    """The only element of that name under `parent`, at any depth, or None."""
    found = list(parent.iter(name))
    if len(found) > 1:
        raise WsTrustError("wstrust.shape", f"more than one {etree.QName(name).localname} in the response")
    return found[0] if found else None
