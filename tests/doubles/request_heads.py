"""What stands at the beginning of a request, where agencies that are no servers find whom it is about."""

from pipeline.gateway.exchange import Request


def head_of(request: Request) -> bytes:
    """The first part of the body, which is never read while it is sent."""
    head = request.body[0]
    assert isinstance(head, bytes)
    return head
