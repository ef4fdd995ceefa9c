"""Synthetic pay events for the sandbox's SBR2 gateways, and jobs that lodge them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tests.doubles.stp import ABN, pay_event

SOFTWARE_ID = "0004785936"


def pay_run(
    name: str,
    script: str | None = None,
    *,
    payees: int = 3,
    abn: str = ABN,
    changes: Mapping[str, str] | None = None,
) -> bytes:
    """A pay event of today, in a lane and of a content of its own; `script` is what the sandbox makes of it."""
    now = datetime.now(UTC)
    fields = {
        "Rp/SoftwareInformationBusinessManagementSystemId": f"SYN-BMS-{name}",
        "Rp/AustralianBusinessNumberId": abn,
        "Rp/OrganisationName/DetailsOrganisationalNameT": f"SANDBOX:{script}" if script else f"Synthetic {name}",
        "Rp/Payroll/PaymentRecordTransactionD": f"{now:%Y-%m-%d}",
        "Rp/Payroll/MessageTimestampGenerationDt": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "Rp/Payroll/InteractionTransactionId": f"SYN-{name}",
        "Rp/Declaration/SignatureD": f"{now:%Y-%m-%d}",
    }
    return pay_event({**fields, **(changes or {})}, payees)


def pay_job(job_id: str, script: str | None = None, document: bytes | None = None, **changes: Any) -> bytes:
    """A job as its producer writes it; `changes` replace or add fields."""
    fields = {
        "version": 1,
        "job_id": job_id,
        "channel": "sbr2_stp",
        "service": "payevnt",
        "action": "Submit",
        "sender": {"id": "SYNTHETIC-SSP", "type": "SSP"},
        "employer": {"abn": ABN},
        "software_id": SOFTWARE_ID,
        "payload": {"inline": (document or pay_run(job_id, script)).decode()},
    }
    return json.dumps({**fields, **changes}).encode()
