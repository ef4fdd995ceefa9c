"""Synthetic payee tables; all of it is made up."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

ABN, OTHER_ABN = "51824753556", "53004085616"
NOW = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)
LINE: Mapping[str, str] = {
    "payer_abn": ABN,
    "branch": "1",
    "bms_id": "SYN-BMS-1",
    "payer_name": "Synthetic Bakery",
    "pay_date": "2026-11-25",
    "submission_id": "SYN-1",
    "declared_by": "SYNTHETIC",
    "declared_on": "2026-11-25",
    "declaration_accepted": "true",
    "tfn": "111111111",
    "payee_id": "P-1",
    "family_name": "O'Possum & <Sons>",
    "birth_date": "1990-02-01",
    "period_start": "2026-11-12",
    "period_end": "2026-11-25",
    "income_type": "SAW",
    "gross": "61000.5",
    "withheld": "13420",
    "super_l": "7320.00",
    "period_gross": "2346.15",
    "period_withheld": "516.15",
}


def line(payee: int = 1, **changes: str) -> dict[str, str]:
    return {**LINE, "payee_id": f"P-{payee}", **changes}


def as_csv(lines: Sequence[Mapping[str, str]]) -> bytes:
    """With the columns that any of the lines has."""
    written = io.StringIO(newline="")
    writer = csv.DictWriter(written, list(dict.fromkeys(name for one in lines for name in one)))
    writer.writeheader()
    writer.writerows(lines)
    return written.getvalue().encode()
