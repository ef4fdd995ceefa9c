"""A gateway's answer: the reply, and how it leaves."""

from dataclasses import dataclass

from pipeline.sandbox.scenarios import Delivery
from pipeline.sandbox.soap import Reply


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply and how it leaves; `seconds` of delay where it leaves late."""

    reply: Reply
    delivery: Delivery = Delivery.WHOLE
    seconds: float = 0.0
