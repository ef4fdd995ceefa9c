"""An SBR2 gateway's check of a message: whose it is, what of it is signed, and whether the token says so too.

Nothing but what the signature covers is handed on. `as4_verify` checks the references over the octets at hand and has
the signature's value checked by xmlsec; xmlsec alone cannot, it knows no attachments (decision 18).
"""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from pipeline.protocol.as4_signed_info import As4SignatureError
from pipeline.protocol.as4_verify import PUSH_POLICY, Verified, verify_message
from pipeline.protocol.ebms3 import Ebms3Error, PullRequest, UserMessage
from pipeline.protocol.ebms3_reader import read_messaging
from pipeline.protocol.mime import Package
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import XmlError, parse
from pipeline.sandbox.home import SBR2_APPLIES_TO, Home
from pipeline.sandbox.judge import ForgedError
from pipeline.sandbox.relying_party import RelyingParty, UnacceptableError, UnreadableError
from pipeline.sandbox.sbr2_answers import RefusedError
from pipeline.sandbox.signers import Signer, Signers, check_token

_CODES = {
    "as4.xml": "EBMS:0009",
    "as4.signature": "EBMS:0101",
    "as4.digest": "EBMS:0101",
    "as4.certificate": "EBMS:0101",
}
"""Not XML, and who signed what; every other rule is about how a message is signed: EBMS:0103."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """One message, as its sender signed it."""

    unit: UserMessage | PullRequest
    verified: Verified
    signer: Signer


class Sbr2Sentry:
    """Lets a message pass, or says which error it earns."""

    def __init__(self, home: Home) -> None:
        self._relying_party = RelyingParty(home.sbr2_relying_party, home.sts.certificate)
        self._signers = Signers(home)

    def admit(self, package: Package, now: datetime) -> Admitted:
        """Believe what is signed of this message.

        Raises:
            RefusedError: EBMS:0009, EBMS:0101, EBMS:0102 or EBMS:0103.
        """

        def trusted(named: x509.Certificate | None) -> x509.Certificate | None:
            if named is not None:
                self._signers.signer(named, now)
            return named

        try:
            verified = verify_message(package.root, package.attachments, PUSH_POLICY, trusted)
            signer = self._signers.signer(verified.certificate, now)
            self._check_token(verified, signer, now)
            units = read_messaging(verified.messaging)
        except As4SignatureError as error:
            raise RefusedError(_CODES.get(error.code, "EBMS:0103"), f"{error.code}: {error}") from error
        except (ForgedError, UnacceptableError) as error:
            raise RefusedError("EBMS:0101", str(error)) from error
        except UnreadableError as error:
            raise RefusedError("EBMS:0102", str(error)) from error
        except (Ebms3Error, XmlError) as error:
            raise RefusedError("EBMS:0009", f"{error.code}: {error}") from error
        if len(units) != 1 or not isinstance(units[0], UserMessage | PullRequest):
            raise RefusedError("EBMS:0009", "one user message or one pull request is expected")
        return Admitted(units[0], verified, signer)

    def _check_token(self, verified: Verified, signer: Signer, now: datetime) -> None:
        assert verified.assertion is not None  # noqa: S101  - the policy has it covered
        assertion = parse(verified.assertion)
        if [child.tag for child in assertion] != [Ns.XENC("EncryptedData")]:
            raise UnacceptableError("EncryptedAssertion must hold one EncryptedData")
        check_token(self._relying_party.open(assertion[0]), signer, SBR2_APPLIES_TO, now)
