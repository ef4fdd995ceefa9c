"""A document at hand, and a job around it, for whoever prepares documents without an intake."""

from collections.abc import Iterator

from pipeline.channels.contract import Channel, Prepared
from pipeline.lodgment.job import Employer, LodgmentJob, Payload, Sender
from tests.doubles.jobs import ABN
from tests.doubles.lodgments import NOW


class AtHand:
    """A document in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self) -> bytes:
        return self._content

    def pieces(self) -> Iterator[bytes]:
        yield self._content


def job_about(service: str, action: str, channel: str = "asic_bn") -> LodgmentJob:
    """A job whose payload is of no interest."""
    return LodgmentJob(
        job_id="synthetic",
        channel=channel,
        service=service,
        action=action,
        sender=Sender(id="SYNTHETIC-1", type="REGA"),
        employer=Employer(abn=ABN),
        payload=Payload(inline="synthetic"),
    )


def prepared_by(channel: Channel, service: str, action: str, content: bytes) -> Prepared:
    """What `channel` makes of `content`."""
    return channel.prepare(job_about(service, action, channel.name), AtHand(content), NOW)
