"""What needs a connection: ports, database, broker, token service and agency, each with a bound of its own."""

from collections.abc import AsyncIterator
from datetime import timedelta

from pipeline.broker.inspection import broker_address
from pipeline.broker.topology import Topology
from pipeline.gateway.client import TlsSettings
from pipeline.interfaces.cli.conversation import Agencies, agencies
from pipeline.interfaces.cli.doctor import servers
from pipeline.interfaces.cli.doctor.catalogue import Check
from pipeline.interfaces.cli.doctor.line import Line, Role, Verdict, failed, skipped
from pipeline.interfaces.cli.doctor.network import PATIENCE, endpoints, network_lines, reach
from pipeline.interfaces.cli.doctor.servers import OF_BROKER, OF_DATABASE, OF_LEDGER
from pipeline.interfaces.cli.doctor.talks import ask_agency, ask_ping, ask_sts, ask_token
from pipeline.interfaces.cli.doctor.visit import OFFLINE, Visit, silent, skipped_all
from pipeline.interfaces.cli.session import now
from pipeline.ledger.inspection import database_file
from pipeline.lodgment.errors import ConfigurationError
from pipeline.protocol.wstrust import SecurityToken
from pipeline.settings import EnvironmentSettings

_ANSWER = timedelta(seconds=30)
_DATABASE = 20.0
_BROKER = 45.0
_OF_STS = (Check.STS, Check.CLOCK_STS)
_OF_AGENCY = (Check.AGENCY, Check.CLOCK_AGENCY)
_CONVERSATIONS = (*_OF_STS, Check.TOKEN, *_OF_AGENCY, Check.PING)
_NEEDLESS = {
    Check.REACH_STS: "no token service is set for this environment",
    Check.REACH_AGENCY: "no agency is known",
    Check.REACH_BROKER: "embedded, or no readable URL: there is none to reach",
    Check.REACH_DATABASE: "the ledger is on this machine",
}


async def reach_lines(visit: Visit) -> list[Line]:
    """Every host and port: name, TCP, TLS."""
    ends = endpoints(visit.settings, visit.environment, sandbox=visit.sandbox)
    there = {end.check for end in ends}
    lines = [skipped(check, why) for check, why in _NEEDLESS.items() if check not in there]
    if visit.scope.offline:
        lines += [skipped(end.check, OFFLINE, end.name) for end in ends]
        return [*lines, *skipped_all((Check.TLS_STS, Check.TLS_AGENCY), OFFLINE)]
    ca_file = None if visit.environment is None else visit.environment.ca_file
    found = await visit.within(PATIENCE * 4, reach(ends, TlsSettings(ca_file)))
    if found is None:
        return lines + [line for end in ends for line in silent(end.check, Role.NETWORK, (), end.name)]
    visit.reached = found
    return lines + list(network_lines(found, now()))


async def database_lines(visit: Visit) -> list[Line]:
    """The database, and whether what is stored in it is ours to read."""
    everything = (*OF_DATABASE, *OF_LEDGER)
    try:
        file = database_file(visit.settings.ledger())
    except ConfigurationError as error:
        first = failed(Check.DATABASE, f"{error} [{error.code}]", "Correct ledger_url.", Role.OPERATOR)
        return [first, *skipped_all(everything[1:], f"needs {Check.DATABASE}")]
    if file is None and visit.scope.offline:
        return skipped_all(everything, OFFLINE)
    if visit.reached.refused(Check.REACH_DATABASE):
        return skipped_all(everything, f"needs {Check.REACH_DATABASE}")
    lines = await visit.within(_DATABASE, servers.database_lines(visit.settings, now()))
    return (
        silent(Check.DATABASE, Role.DATABASE, everything[1:]) if lines is None else lines + await _ledger(visit, lines)
    )


async def _ledger(visit: Visit, found: list[Line]) -> list[Line]:
    """Nothing, where the lines of the ledger are there already: it is not there to be opened."""
    if {line.check for line in found} >= set(OF_LEDGER):
        return []
    if any(line.check is Check.MIGRATIONS and line.verdict is Verdict.FAIL for line in found):
        return skipped_all(OF_LEDGER, f"needs {Check.MIGRATIONS}")
    more = await visit.within(_DATABASE, servers.ledger_lines(visit.settings, visit.master_keys, now()))
    return silent(OF_LEDGER[0], Role.DATABASE, OF_LEDGER[1:]) if more is None else more


async def broker_lines(visit: Visit) -> list[Line]:
    """Every broker that is named."""
    if visit.settings.embedded:
        return skipped_all(OF_BROKER, "embedded: there is none")
    topology = Topology(visit.settings.namespace, visit.settings.delivery_limit)
    lines: list[Line] = []
    for url in visit.settings.broker_urls:
        try:
            name = "{}:{}".format(*broker_address(url))
        except ConfigurationError as error:
            lines.append(failed(Check.BROKER, f"{error} [{error.code}]", "Correct broker_urls.", Role.OPERATOR))
            continue
        if visit.scope.offline:
            lines += skipped_all(OF_BROKER, OFFLINE, name)
        elif visit.reached.refused(Check.REACH_BROKER, name):
            lines += skipped_all(OF_BROKER, f"needs {Check.REACH_BROKER}", name)
        else:
            found = await visit.within(_BROKER, servers.broker_lines(url, name, topology))
            lines += silent(Check.BROKER, Role.BROKER, OF_BROKER[1:], name) if found is None else found
    return lines


async def agency_lines(visit: Visit) -> AsyncIterator[Line]:
    """Token service and agency: answers, clocks, a token, a ping."""
    environment = visit.environment
    if visit.scope.offline or environment is None:
        why = OFFLINE if visit.scope.offline else f"needs {Check.SETTINGS_ENVIRONMENT}"
        for line in skipped_all(_CONVERSATIONS, why):
            yield line
        return
    told: set[Check] = set()
    try:
        async with agencies(visit.settings, environment, min(environment.agency_timeout, _ANSWER)) as them:
            async for line in _talks(visit, environment, them):
                told.add(line.check)
                yield line
    except ConfigurationError as error:
        first, *rest = (check for check in _CONVERSATIONS if check not in told)
        yield failed(first, f"{error} [{error.code}]", "Mend what this line names.", Role.OPERATOR)
        for line in skipped_all(rest, f"needs {first}"):
            yield line


async def _talks(visit: Visit, environment: EnvironmentSettings, them: Agencies) -> AsyncIterator[Line]:
    lines, token = await _sts(visit, environment, them)
    for line in lines:
        yield line
    if (why := visit.reached.needs(Check.REACH_AGENCY)) is not None:
        for line in skipped_all((*_OF_AGENCY, Check.PING), why):
            yield line
        return
    asked = await visit.within(_ANSWER.total_seconds() * 1.5, ask_agency(them))
    for line in silent(Check.AGENCY, Role.AGENCY, (Check.CLOCK_AGENCY,)) if asked is None else asked.lines:
        yield line
    if asked is None or not asked.answered:
        yield skipped(Check.PING, f"needs {Check.AGENCY}")
    elif environment.authentication == "token" and token is None:
        yield skipped(Check.PING, f"needs {Check.TOKEN}")
    elif visit.scope.sender is None:
        why = "not sent: it must say who asks"
        yield Line(Check.PING, Verdict.SKIP, why, "Give --sender-id and --sender-type.", (Role.OPERATOR,))
    else:
        ping = ask_ping(them, visit.scope.sender, visit.credential, token)
        echoed = await visit.within(_ANSWER.total_seconds() * 1.5, ping)
        for line in silent(Check.PING, Role.AGENCY, ()) if echoed is None else echoed.lines:
            yield line


async def _sts(
    visit: Visit, environment: EnvironmentSettings, them: Agencies
) -> tuple[list[Line], SecurityToken | None]:
    everything = (*_OF_STS, Check.TOKEN)
    if environment.authentication != "token" or environment.sts_url is None:
        return skipped_all(everything, "this environment needs no token"), None
    if (why := visit.reached.needs(Check.REACH_STS)) is not None:
        return skipped_all(everything, why), None
    bound = _ANSWER.total_seconds() * 1.5
    asked = await visit.within(bound, ask_sts(them, environment.sts_url))
    if asked is None:
        return silent(Check.STS, Role.AGENCY, everything[1:]), None
    if not asked.answered or visit.credential is None:
        needs = Check.CREDENTIAL if asked.answered else Check.STS
        return [*asked.lines, skipped(Check.TOKEN, f"needs {needs}")], None
    given = await visit.within(
        bound, ask_token(them, visit.credential, asked.skew, visit.reached.timings(Check.REACH_STS))
    )
    if given is None:
        return [*asked.lines, *silent(Check.TOKEN, Role.AGENCY, ())], None
    return [*asked.lines, *given.lines], given.token
