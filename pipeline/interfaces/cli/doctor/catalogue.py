"""The stable names of everything that the doctor looks at, and why each matters. Listed in docs/operations.md."""

from collections.abc import Mapping
from enum import StrEnum


class Check(StrEnum):
    """By area, in the order of the walk."""

    SETTINGS_FILE = "settings.file"
    SETTINGS_VARIABLES = "settings.variables"
    SETTINGS_FIELDS = "settings.fields"
    SETTINGS_ENVIRONMENT = "settings.environment"
    ENDPOINT_AGENCY = "endpoint.agency"
    ENDPOINT_STS = "endpoint.sts"
    APPLIES_TO = "endpoint.applies_to"
    STAGES = "endpoint.stages"
    LIBRARIES = "machine.libraries"
    PROXY = "machine.proxy"
    TRUST = "machine.trust"
    DISK = "machine.disk"
    PAYLOADS = "machine.payload_roots"
    MASTER_KEY = "keys.master_key"
    PASSWORD_FILE = "keys.password_file"  # noqa: S105  - the name of a check
    KEYSTORE_FILE = "keys.keystore_file"
    UNLOCK = "keys.unlock"
    CREDENTIAL = "keys.credential"
    EXPIRY = "keys.expiry"
    CHAIN = "keys.chain"
    REACH_STS = "reach.sts"
    REACH_AGENCY = "reach.agency"
    REACH_BROKER = "reach.broker"
    REACH_DATABASE = "reach.database"
    TLS_STS = "tls.sts"
    TLS_AGENCY = "tls.agency"
    DATABASE = "database.connect"
    DATABASE_CLOCK = "database.clock"
    MIGRATIONS = "database.migrations"
    PARTITIONS = "database.partitions"
    LEDGER_KEY = "database.master_key"
    LEDGER_ENVIRONMENT = "database.environment"
    SWEEPS = "database.sweeps"
    BROKER = "broker.connect"
    TOPOLOGY = "broker.topology"
    QUEUES = "broker.queues"
    ALARM = "broker.alarm"
    STS = "sts.answer"
    CLOCK_STS = "clock.sts"
    TOKEN = "sts.token"  # noqa: S105  - the name of a check
    AGENCY = "agency.answer"
    CLOCK_AGENCY = "clock.agency"
    PING = "agency.ping"


MEANING: Mapping[Check, str] = {
    Check.SETTINGS_FILE: "No process of the pipeline starts with these settings.",
    Check.SETTINGS_VARIABLES: "A variable that looks like a setting has no effect.",
    Check.SETTINGS_FIELDS: "No process of the pipeline starts with these settings.",
    Check.SETTINGS_ENVIRONMENT: "It is not known with which agencies to lodge.",
    Check.ENDPOINT_AGENCY: "Lodgments go to an address that cannot take them.",
    Check.ENDPOINT_STS: "Token requests go to an address that cannot answer them.",
    Check.APPLIES_TO: "The token service knows relying parties by their exact name, and refuses others (E2003).",
    Check.STAGES: "Test and production do not know each other's credentials and tokens.",
    Check.LIBRARIES: "Two libxml2 in one process corrupt each other's memory.",
    Check.PROXY: "Where there is no way out but the proxy, nobody is reached.",
    Check.TRUST: "The agencies' certificates are judged by authorities that somebody else chose.",
    Check.DISK: "A full disk stops the ledger: nothing is lost, and nothing is lodged.",
    Check.PAYLOADS: "Jobs whose documents are files there are refused.",
    Check.MASTER_KEY: "Without the master key no document in the ledger can be read or stored.",
    Check.PASSWORD_FILE: "Without the password no message can be signed; with a loose mode others can sign as you.",
    Check.KEYSTORE_FILE: "Without the keystore no message can be signed.",
    Check.UNLOCK: "No message can be signed: every lodgment is held.",
    Check.CREDENTIAL: "Jobs that name no credential of their own are held.",
    Check.EXPIRY: "With an expired credential no token is given, and everything that needs one is held.",
    Check.CHAIN: "The token service may refuse a credential that it cannot trace to an authority of its own.",
    Check.REACH_STS: "No token can be had: lodgments wait.",
    Check.REACH_AGENCY: "Nothing can be lodged: lodgments wait.",
    Check.REACH_BROKER: "No step is told of its work: lodgments wait in the ledger, new jobs wait with their producer.",
    Check.REACH_DATABASE: "Nothing can be recorded, so nothing is sent.",
    Check.TLS_STS: "No token can be had: lodgments wait. There is no switch that trusts anybody.",
    Check.TLS_AGENCY: "Nothing can be lodged: lodgments wait. There is no switch that trusts anybody.",
    Check.DATABASE: "Nothing can be recorded, so nothing is sent.",
    Check.DATABASE_CLOCK: "Leases and waiting times are read on clocks that differ.",
    Check.MIGRATIONS: "Workers do not start on a schema that is older than they are.",
    Check.PARTITIONS: "Next month's rows go to the default partition: nothing is lost; moving them costs time.",
    Check.LEDGER_KEY: "Documents in the ledger were sealed under a master key that is not at hand.",
    Check.LEDGER_ENVIRONMENT: "What waits in this ledger would go to another environment's agency.",
    Check.SWEEPS: "What is stuck or due stays where it is, and nobody is told.",
    Check.BROKER: "No step is told of its work: lodgments wait in the ledger, new jobs wait with their producer.",
    Check.TOPOLOGY: "Nothing can be pushed where no queue is; on queues declared otherwise no worker starts.",
    Check.QUEUES: "Messages that no worker could handle, or a backlog that nobody takes.",
    Check.ALARM: "The broker takes no message from anybody: memory or disk has run short there.",
    Check.STS: "The token service is there and does not answer as a web service.",
    Check.CLOCK_STS: "A token request out of its time is refused.",
    Check.TOKEN: "Without a token nothing can be lodged.",
    Check.AGENCY: "The agency's gateway is there and does not describe its service.",
    Check.CLOCK_AGENCY: "A message out of its time is refused.",
    Check.PING: "The agency does not take our messages as they are.",
}
