"""Synthetic jobs for the sandbox's ASIC gateway."""

import json
from typing import Any

NAMESPACE = "uri:v1.external.bn.lodge.application.asic.gov.au"
ABN = "51824753556"


def document(scenario: str | None = None, *, times: int = 1, seconds: float = 1, name: str = "Synthetic Bakery") -> str:
    """A synthetic business-name application; `scenario` is the trouble that the sandbox makes of it."""
    trouble = ""
    if scenario is not None:
        trouble = f'<sandboxScenario times="{times}" seconds="{seconds}">{scenario}</sandboxScenario>'
    return (
        f'<businessDocumentBody xmlns="{NAMESPACE}">{trouble}<proposedName>{name}</proposedName>'
        f"<registrationYears>1</registrationYears><holder><abn>{ABN}</abn><name>Synthetic Holder</name></holder>"
        "</businessDocumentBody>"
    )


def job(job_id: str, scenario: str | None = None, **changes: Any) -> bytes:
    """A job as its producer writes it; `changes` replace or add fields."""
    fields = {
        "version": 1,
        "job_id": job_id,
        "channel": "asic_bn",
        "service": "business-names",
        "action": "bnLodgeApplication",
        "sender": {"id": "SYNTHETIC-1", "type": "REGA"},
        "employer": {"abn": ABN},
        "payload": {"inline": document(scenario)},
    }
    return json.dumps({**fields, **changes}).encode()
