"""Every parser of bytes from outside, by name."""

from tests.fuzz.target import Target
from tests.fuzz.targets import evidence, files, keys, messages, replies, sandbox, settings, xml

TARGETS: dict[str, Target] = {
    one.name: one
    for group in (messages, xml, replies, keys, files, settings, evidence, sandbox)
    for one in group.TARGETS
}
