"""One conversation with the token service: a signed request, its reply read, a bounded number of tries."""

import secrets
from datetime import timedelta

import structlog
from tenacity import AsyncRetrying, retry_if_result, stop_after_attempt, wait_exponential_jitter

from pipeline.channels import mas_st
from pipeline.channels.mas_st import StsProfile
from pipeline.gateway.exchange import Exchange, Request
from pipeline.lodgment.errors import DependencyDownError, RefusedError
from pipeline.lodgment.failures import Failure, FailureClass, Party
from pipeline.lodgment.references import TokenKey
from pipeline.protocol.credential import Credential
from pipeline.protocol.wstrust import SecurityToken
from pipeline.stages.contract import Carrier, Context, Credentials

log = structlog.get_logger(__name__)

_TRIES = 3
_LEAST_SKEW = timedelta(seconds=2)
"""Smaller differences are told by nobody and harm nobody."""
_NAME = "mas-st"


class TokenService:
    """Asks MAS-ST. Every try is signed anew with a fresh id and time; the measured clock skew is made up for."""

    def __init__(self, context: Context, profile: StsProfile, credentials: Credentials, carrier: Carrier) -> None:
        self._context = context
        self._profile = profile
        self._credentials = credentials
        self._carrier = carrier
        self._skew = timedelta(0)

    async def ask(self, key: TokenKey) -> SecurityToken | Failure:
        """A token that outlives a submission, or why there is none."""
        credential = self._credentials.get(key.credential)
        if isinstance(credential, Failure):
            return credential
        # Only what never left is tried again here; longer waits belong to the ledger.
        tries = AsyncRetrying(
            stop=stop_after_attempt(_TRIES),
            wait=wait_exponential_jitter(multiplier=0.2, max=2),
            retry=retry_if_result(_not_sent),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome is not None else None,
        )
        answer: SecurityToken | Failure = await tries(self._once, key, credential)
        if isinstance(answer, Failure):
            self._context.tell_unknown(_NAME, answer)
            return mas_st.unreachable(answer) if answer.kind in _NO_ANSWER else answer
        return answer if self._outlives_a_submission(answer) else _too_short(answer)

    async def _once(self, key: TokenKey, credential: Credential) -> SecurityToken | Failure:
        skew = self._skew
        answer = await self._ask_once(key, credential)
        if isinstance(answer, Failure) and mas_st.blames_the_clock(answer) and self._skew != skew:
            # That reply told how far the clock is off: what it refused is right with the next one.
            return await self._ask_once(key, credential)
        return answer

    async def _ask_once(self, key: TokenKey, credential: Credential) -> SecurityToken | Failure:
        now = self._context.clock()
        nonce = self._context.new_id()
        try:
            request = mas_st.request(
                self._profile,
                credential,
                key,
                f"urn:uuid:{nonce}",
                now,
                nonce.hex,
                self._skew,
                secrets.token_bytes(key.key_size // 8),
            )
        except RefusedError as error:
            advice, who = _CANNOT_ASK, Party.PRODUCER
            if error.code == mas_st.SELF_CHECK:
                advice, who = _NOT_SOUND, Party.OPERATOR
            return Failure(FailureClass.OUR_DOCUMENT, error.code, str(error), advice, who)
        except DependencyDownError as error:
            return Failure(FailureClass.UNAVAILABLE, error.code, str(error), _CANNOT_SIGN, Party.OPERATOR)
        exchange = await self._carrier.exchange(Request(request.url, (request.body,), request.headers))
        self._measure_skew(exchange)
        if exchange.failure is not None:
            return exchange.failure
        return mas_st.read_reply(request, exchange.status or 0, exchange.body or b"", self._context.clock())

    def _measure_skew(self, exchange: Exchange) -> None:
        skew = mas_st.measured_skew(exchange.body, exchange.server_date, exchange.started_at, exchange.finished_at)
        if skew is None:
            return
        self._context.metrics.sts_clock_skew(skew.total_seconds())
        if abs(skew) > mas_st.LARGEST_SKEW:
            log.error("sts.clock_skew_absurd", seconds=skew.total_seconds())
        elif abs(skew - self._skew) >= _LEAST_SKEW:
            log.warning("sts.clock_skew", seconds=skew.total_seconds())
            self._skew = skew

    def _outlives_a_submission(self, token: SecurityToken) -> bool:
        return token.expires_at > self._context.clock() + self._context.timing.token_margin


_NO_ANSWER = {FailureClass.NOT_SENT, FailureClass.UNKNOWN}


def _not_sent(answer: object) -> bool:
    return isinstance(answer, Failure) and answer.kind is FailureClass.NOT_SENT


def _too_short(token: SecurityToken) -> Failure:
    return Failure(
        kind=FailureClass.UNAVAILABLE,
        code="sts.short-lived",
        detail=f"expires at {token.expires_at.isoformat()}",
        advice="The token would expire while an envelope is under way. Check this machine's clock, ask for a longer "
        "token_lifetime, or shorten agency_timeout.",
        who=Party.OPERATOR,
    )


_CANNOT_ASK = "No token can be asked for on these terms; the producer corrects the job and pushes it under a new id."
_NOT_SOUND = (
    "A token request does not pass our own check, so it was not sent. See whether the PKCS#11 token or a library is "
    "damaged; report it."
)
_CANNOT_SIGN = "The token that holds the private key cannot be used now. It is asked again by itself."
