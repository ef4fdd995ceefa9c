"""The token worker: lets lodgments go on whose token is at hand, and asks for those that are not."""

import asyncio

from pipeline.bootstrap import Parts
from pipeline.broker.port import Outgoing
from pipeline.profiles import desk_terms, sts_profile
from pipeline.runner import Activity, Periodic, Pool
from pipeline.stages.authorise import Authorise
from pipeline.stages.token_desk import TokenDesk
from pipeline.stages.token_service import TokenService
from workers.beside import runners

LOOK_EVERY = 0.25
"""Seconds between looks at the queue of tokens to ask for; this process's own demand is seen at once."""
SETTLE_EVERY = 1.0
LOOK_AHEAD_EVERY = 15.0


def activities(parts: Parts) -> list[Activity]:
    wake, answered = asyncio.Event(), asyncio.Event()
    authorising = runners(parts, Authorise(parts.context, wake))
    keyring = parts.keyring()
    if keyring is None:
        return authorising
    source = TokenService(parts.context, sts_profile(parts.environment), keyring, parts.sts)
    terms = desk_terms(parts.settings, parts.environment, parts.context.timing)
    desk = TokenDesk(parts.context, source, terms, parts.metrics, answered)
    told: list[Outgoing] = []

    async def settle() -> bool:
        # What a broker that is down did not take is committed, and goes first when it is back.
        told.extend(() if told else await desk.settle())
        published = len(told)
        await parts.broker.publish(told)
        told.clear()
        return published > 0

    return [
        *authorising,
        Pool("ask", desk.take, desk.ask, desk.give_up, parts.settings.token_requests, LOOK_EVERY, parts.metrics, wake),
        Periodic("settle", settle, SETTLE_EVERY, parts.metrics, answered),
        Periodic("look-ahead", desk.look_ahead, LOOK_AHEAD_EVERY, parts.metrics),
    ]
