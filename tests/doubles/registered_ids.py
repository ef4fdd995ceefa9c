"""Software ids as `lodge software-ids import` registers them."""

from datetime import UTC, datetime

from pipeline.lodgment.software_id import SoftwareId, software_id_fault
from pipeline.lodgment.subscription import Checked, Origin, RegisteredId, Subscription
from tests.doubles.pay_jobs import SOFTWARE_ID
from tests.doubles.stp import ABN


def registered(product: str | None, software_id: str = SOFTWARE_ID, abn: str = ABN) -> RegisteredId:
    """The id under which one employer uses `product`."""
    assert product is not None, "the environment looks no software ids up"
    checked = Checked.CONTROL_DIGIT if software_id_fault(software_id) is None else Checked.ALLOWED
    whose = Subscription(product, abn)
    return RegisteredId(SoftwareId(software_id), whose, Origin.IMPORTED, checked, datetime.now(UTC), "test@desk")
