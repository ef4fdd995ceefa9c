"""The certificates above a credential's own, put in order (RFC 5280, 6.1, as far as names and signatures go)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from pipeline.protocol.credential import Credential


@dataclass(frozen=True, slots=True)
class Chain:
    """What stands between a leaf and a self-signed root: the issuers' names, nearest first, and what is amiss."""

    issuers: tuple[str, ...]
    problem: str | None

    @property
    def complete(self) -> bool:
        """Whether it ends in a self-signed root. That says nothing of trust: the agency judges that, not we."""
        return self.problem is None


def chain_of(credential: Credential, now: datetime) -> Chain:
    """Follow issuers from the leaf to a self-signed root, by name and by signature, in whatever order they came."""
    issuers: list[str] = []
    below = credential.certificate
    left = list(credential.chain)
    while not _issued(below, below):
        above = next((one for one in left if _issued(below, one)), None)
        if above is None:
            return Chain(tuple(issuers), f"no certificate of the issuer {_name(below.issuer)!r}")
        left.remove(above)
        issuers.append(_name(above.subject))
        below = above
    if not issuers:
        return Chain((), "self-signed: no authority issued it")
    over = [one for one in credential.chain if one not in left and one.not_valid_after_utc <= now]
    return Chain(tuple(issuers), f"the issuer {_name(over[0].subject)!r} has expired" if over else None)


def issuer_of(credential: Credential) -> str:
    """The name of the authority that issued it."""
    return _name(credential.certificate.issuer)


def _issued(below: x509.Certificate, above: x509.Certificate) -> bool:
    try:
        below.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _name(name: x509.Name) -> str:
    common: Iterable[x509.NameAttribute[str | bytes]] = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return next((str(one.value) for one in common), "") or name.rfc4514_string()
