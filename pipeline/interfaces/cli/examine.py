"""Before anything is pushed: every job of the input is read and checked as the intake will check it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from pipeline.channels.contract import Channel
from pipeline.gateway.documents import DocumentStore
from pipeline.interfaces.cli.inputs import Found
from pipeline.interfaces.cli.session import now
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.job import JobRefusedError, LodgmentJob
from pipeline.lodgment.subscription import unused_id


@dataclass(slots=True)
class Examined:
    """What the input holds: for each good job id where it stands, and everything that cannot be a job."""

    jobs: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    """The content digest of each good job, by which the ledger tells it from another job of the same id."""
    bad: list[Found] = field(default_factory=list)
    repeats: list[str] = field(default_factory=list)
    """Where a job stands again, with the same content: it is pushed once."""

    def chosen(self, found: Iterable[Found]) -> Iterator[LodgmentJob]:
        """The good jobs, once each, from the same input read again.

        Raises:
            RefusedError: `submit.changed`, the input was changed since it was examined.
        """
        known = {*self.jobs.values(), *(bad.origin for bad in self.bad), *self.repeats}
        for one in found:
            if one.job is not None and self.jobs.get(one.job.job_id) == one.origin:
                yield one.job
            elif one.origin not in known:
                raise RefusedError("submit.changed", f"{one.origin}: changed while it was being submitted")


async def examine(
    found: Iterable[Found],
    channels: Mapping[str, Channel],
    documents: DocumentStore,
    on_read: Callable[[], None],
) -> Examined:
    """Check every job; `on_read` is called after each."""
    result = Examined()
    for one in found:
        if one.job is None:
            result.bad.append(one)
        else:
            try:
                digest = checked_digest(one.job, channels, documents)
                first = result.digests.setdefault(one.job.job_id, digest)
                if first != digest:
                    raise _conflict(result.jobs[one.job.job_id])
                if result.jobs.setdefault(one.job.job_id, one.origin) != one.origin:
                    result.repeats.append(one.origin)
            except JobRefusedError as error:
                result.bad.append(replace(one, job=None, problems=error.problems))
        on_read()
    return result


def checked_digest(job: LodgmentJob, channels: Mapping[str, Channel], documents: DocumentStore) -> str:
    """The job's content digest, once its document has passed.

    Raises:
        JobRefusedError: why the intake would refuse it.
    """
    channel = channels.get(job.channel)
    if channel is None:
        known = ", ".join(sorted(channels))
        raise JobRefusedError("job.channel", (f"channel: unknown; this pipeline has {known}",))
    with documents.open(job.payload) as document:
        try:
            channel.prepare(job, document, now())
        except JobRefusedError:
            document.checked()  # not the document that was meant: that is the better explanation
            raise
        if not channel.needs_software_id:
            unused_id(job)
        return job.content_digest(document.checked())


def _conflict(origin: str) -> JobRefusedError:
    rule = f"job_id: {origin} has it already, with other content; give each document an id of its own"
    return JobRefusedError("job.conflict", (rule,))
