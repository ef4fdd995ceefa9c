"""What a fault of an agency means for the lodgment: one row of a channel's table."""

from dataclasses import dataclass
from datetime import datetime

from pipeline.channels.foreign_text import plain
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One row: the class, who must act, what else fails with it, and what to do."""

    kind: FailureClass
    who: Party
    blast: Blast
    advice: str

    def failure(self, code: str, detail: str, available_after: datetime | None = None) -> Failure:
        """The failure of one lodgment; `detail` is the other side's text as it came."""
        return Failure(self.kind, code, plain(detail), self.advice, self.who, self.blast, available_after)
