"""The token worker: keeps security tokens fresh, one request in flight per token key over all processes."""

from datetime import timedelta

from pipeline.bootstrap import Parts
from pipeline.profiles import policy, sts_profile
from pipeline.runner import Activity, Pace, Periodic, Runner
from pipeline.stages.authorise import Authorise
from pipeline.stages.token_service import TokenService

RENEW_EVERY = 15.0
DEMAND_WITHIN = timedelta(minutes=30)
"""Tokens that nobody used for so long are left to expire."""


def activities(parts: Parts) -> list[Activity]:
    keyring, source = parts.keyring(), None
    if keyring is not None:
        source = TokenService(parts.context, sts_profile(parts.environment), keyring, parts.sts)
    stage = Authorise(parts.context, source, policy(parts.environment), parts.settings.token_requests)
    ahead = parts.context.timing.token_margin + timedelta(minutes=1)

    async def renew() -> bool:
        asked, publications = await stage.renew(ahead, DEMAND_WITHIN, parts.settings.token_requests)
        await parts.broker.publish(publications)
        return asked > 0

    return [
        Runner(stage, parts.broker, Pace(batch=parts.settings.batch), parts.metrics),
        Periodic("renew", renew, RENEW_EVERY, parts.metrics),
    ]
