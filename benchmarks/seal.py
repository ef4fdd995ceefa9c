"""What sealing one envelope costs: beside the RSA operation alone, and beside xmlsec signing the same envelope.

All take turns of some milliseconds on one core of one process. Only the CPU time of its thread counts, and of each turn
the middle operation. What others do on the machine still shows, in caches and in units that cores share: ratios are
formed turn by turn, and the verdict is their median over the quieter half, in which the bare RSA operation was fastest.
"""

import itertools
import json
import multiprocessing
import os
import platform
import re
import shutil
import subprocess
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import xmlsec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree
from rich.console import Console
from rich.table import Table

from benchmarks.course import ACTION, BenchError, payload
from pipeline.channels.asic_bn import AsicBusinessNames
from pipeline.channels.asic_profile import SERVICE
from pipeline.channels.contract import SealOrder
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.verify import EnvelopeError, Expectation, verify_envelope
from tests.doubles.asic import make_channel, make_order
from tests.doubles.documents import prepared_by
from tests.doubles.synthetic_credentials import credential, key

SIZES: Mapping[str, int] = {"1 KB": 1_000, "20 KB": 20_000, "200 KB": 200_000, "5 MB": 5_000_000}
_BARE, _OURS, _HASHED, _XMLSEC = "bare RSA", "seal", "seal + hash", "xmlsec"
_TURN = 0.02
"""Seconds of one contestant's turn; one operation, if that takes longer."""
_PAYEE = 87
"""Bytes of a payee, about."""
_TOKEN, _ASSERTION, _DOCUMENT, _ENDORSEMENT = 1, 0, 2, 3
"""Where in the security header they stand."""
_FILLED_IN = re.compile(rb"(<ds:(DigestValue|SignatureValue)>)[^<]*")

Operation = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Timing:
    """One size: microseconds of CPU for one operation, and ratios of turns that stood beside each other."""

    size: int
    turns: int
    microseconds: Mapping[str, float]
    of_bare_rsa: float
    """Our rate over that of the bare RSA operation; 1 would be sealing for nothing."""
    of_bare_rsa_hashed: float
    """The same with the SHA-256 of all bytes on the wire, by which the ledger knows the envelope."""
    over_xmlsec: float
    """Our rate over that of xmlsec."""
    of_bare_rsa_disturbed: float
    over_xmlsec_disturbed: float
    """Both again, over all turns."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Growth in bytes while one envelope is sealed, at its highest: of Python's objects, and of the whole process."""

    size: int
    objects: int
    resident: int

    @property
    def of_payload(self) -> float:
        """The payload, which is in hand before, and the larger growth, in payloads."""
        return (self.size + max(self.objects, self.resident)) / self.size


@dataclass(frozen=True, slots=True)
class Target:
    """What must be reached: at least `wanted`, or at most."""

    name: str
    seen: float
    wanted: float
    at_most: bool = False

    @property
    def reached(self) -> bool:
        return self.seen <= self.wanted if self.at_most else self.seen >= self.wanted


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. `openssl` is what `openssl speed rsa2048` says of the same core, in signatures a second."""

    core: int
    openssl: float | None
    timings: Mapping[str, Timing]
    memory: Memory

    @property
    def targets(self) -> tuple[Target, ...]:
        return (
            Target("of the bare RSA rate at 20 KB", self.timings["20 KB"].of_bare_rsa, 0.85),
            Target("times xmlsec at 20 KB", self.timings["20 KB"].over_xmlsec, 5),
            Target("times xmlsec at 200 KB", self.timings["200 KB"].over_xmlsec, 20),
            Target("payloads of memory at 5 MB", self.memory.of_payload, 2, at_most=True),
        )


def measure(turns: int, core: int | None, console: Console) -> Measured:
    """Every size, in turn.

    Raises:
        BenchError: an envelope of a contestant does not verify, or a payload is not as `prepare` would leave it.
    """
    core = max(os.sched_getaffinity(0)) if core is None else core
    memory = _memory(SIZES["5 MB"])
    os.sched_setaffinity(0, {core})
    openssl = _openssl()
    timings = {}
    for name, size in SIZES.items():
        timings[name] = timing(size, max(4, turns * 20_000 // max(size, 20_000)))
        console.print(f"{name}: {timings[name].turns} turns each (load {os.getloadavg()[0]:.1f})")
    return Measured(core, openssl, timings, memory)


def document(size: int) -> bytes:
    """A synthetic payload of exactly that many bytes, already as `prepare` leaves it."""
    body = payload((size - 300) // _PAYEE)
    text = "x" * (size - len(body) - len("<note></note>"))
    return body.replace("</businessDocumentBody>", f"<note>{text}</note></businessDocumentBody>").encode()


def contestants(content: bytes) -> Mapping[str, Operation]:
    """Each contestant's operation on that payload, after its envelope was verified by xmlsec.

    Raises:
        BenchError: see `measure`.
    """
    channel = make_channel()
    if prepared_by(channel, SERVICE, ACTION, content).content != content:
        raise BenchError("the payload is not in canonical form")
    orders = itertools.cycle([_order(content, f"{number:032x}") for number in range(100)])
    rsa, padding, sha256 = key("Payroll"), PKCS1v15(), hashes.SHA256()
    found: dict[str, Operation] = {
        _BARE: lambda: rsa.sign(b"a short message", padding, sha256),
        _OURS: lambda: channel.seal(next(orders)),
        _HASHED: lambda: channel.seal(next(orders)).measure(content),
        _XMLSEC: _xmlsec(channel, _order(content, "template")),
    }
    sealed = channel.seal(next(orders))
    _verify(_OURS, sealed.head + content + sealed.tail)
    signed = found[_XMLSEC]()
    assert isinstance(signed, bytes)  # noqa: S101  - what it returns
    _verify(_XMLSEC, signed)
    return found


def _order(content: bytes, nonce: str) -> SealOrder:
    return replace(make_order(content, nonce), credential=credential())


def _xmlsec(channel: AsicBusinessNames, order: SealOrder) -> Operation:
    """Parse the template, sign it twice, serialise: the same envelope, its digests and signature values left out."""
    sealed = channel.seal(order)
    template = _FILLED_IN.sub(rb"\1", sealed.head) + order.payload + sealed.tail
    pem = key("Payroll").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    private_key = xmlsec.Key.from_memory(pem, xmlsec.constants.KeyDataFormatPem)
    assert order.token is not None  # noqa: S101  - orders of ours have one
    proof_key = xmlsec.Key.from_binary_data(xmlsec.constants.KeyDataHmac, order.token.proof_key)
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=len(template) > 1_000_000)

    def sign() -> bytes:
        envelope = etree.fromstring(template, parser)
        header, body = envelope
        parts = list(header[0])
        context = xmlsec.SignatureContext()
        context.register_id(body, "Id", Ns.WSU)
        context.register_id(parts[_TOKEN], "Id", Ns.WSU)
        context.key = private_key
        context.sign(parts[_DOCUMENT])
        context = xmlsec.SignatureContext()
        context.register_id(body, "Id", Ns.WSU)
        context.register_id(parts[_ASSERTION], "Id", Ns.WSU)
        context.register_id(parts[_DOCUMENT], "Id")
        context.key = proof_key
        context.sign(parts[_ENDORSEMENT])
        signed: bytes = etree.tostring(envelope)
        return signed

    return sign


def _verify(who: str, envelope: bytes) -> None:
    token = make_order().token
    assert token is not None  # noqa: S101  - orders of ours have one
    try:
        verify_envelope(envelope, Expectation(credential().certificate_der, token.proof_key))
    except EnvelopeError as error:
        raise BenchError(f"the envelope of {who} does not verify: {error}") from error


def timing(size: int, turns: int) -> Timing:
    """Turns of all contestants on a payload of `size` bytes.

    Raises:
        BenchError: see `measure`.
    """
    operations = contestants(document(size))
    counts = {name: max(1, round(_TURN / _seconds(operation, 3))) for name, operation in operations.items()}
    names = list(operations)
    rows = []
    for number in range(turns):
        # Nobody is always the first, or always after xmlsec.
        order = names[number % len(names) :] + names[: number % len(names)]
        taken = {name: _seconds(operations[name], counts[name]) * 1e6 for name in order}
        rows.append({name: taken[name] for name in names})
    quiet = sorted(rows, key=lambda row: row[_BARE])[: len(rows) // 2]
    return Timing(
        size,
        turns,
        {name: round(median(row[name] for row in quiet), 1) for name in names},
        of_bare_rsa=_ratio(quiet, _BARE, _OURS),
        of_bare_rsa_hashed=_ratio(quiet, _BARE, _HASHED),
        over_xmlsec=_ratio(quiet, _XMLSEC, _OURS),
        of_bare_rsa_disturbed=_ratio(rows, _BARE, _OURS),
        over_xmlsec_disturbed=_ratio(rows, _XMLSEC, _OURS),
    )


def _ratio(rows: Sequence[Mapping[str, float]], upper: str, lower: str) -> float:
    return round(median(row[upper] / row[lower] for row in rows), 3)


def _seconds(operation: Operation, count: int) -> float:
    """CPU of the middle one of `count` operations, after one that finds the caches full of what others left there."""
    if count > 1:
        operation()
    taken = []
    for _ in range(count):
        before = time.thread_time_ns()
        operation()
        taken.append(time.thread_time_ns() - before)
    return median(taken) / 1e9


def _openssl() -> float | None:
    program = shutil.which("openssl")
    if program is None:
        return None
    said = subprocess.run([program, "speed", "-seconds", "1", "rsa2048"], capture_output=True, text=True, check=False)
    found = re.search(r"^rsa +2048 bits +\S+s +\S+s +([0-9.]+)", said.stdout, re.MULTILINE)
    return float(found[1]) if found else None


def _memory(size: int) -> Memory:
    """Both growths, each in a process of its own, as counting objects takes memory too."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as one, ProcessPoolExecutor(1, mp_context=spawn) as other:
        return Memory(size, one.submit(objects_grown, size).result(), other.submit(resident_grown, size).result())


def objects_grown(size: int) -> int:
    """Bytes of Python objects made while one envelope is sealed, at their highest."""
    channel, order = _warm(size)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    kept = channel.seal(order)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return peak - before


def resident_grown(size: int) -> int:
    """Bytes by which the process grew while one envelope was sealed, at its highest.

    The peak that getrusage(2) tells is inherited from the parent and never falls: proc(5) has one that can be reset.
    """
    channel, order = _warm(size)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    kept = channel.seal(order)
    peak = _status("VmHWM")
    del kept
    return max(0, peak - before)


def _warm(size: int) -> tuple[AsicBusinessNames, SealOrder]:
    """All that an envelope needs, in hand and used once for a small one."""
    channel = make_channel()
    channel.seal(_order(document(1_000), "warm"))
    return channel, _order(document(size), "measured")


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None  # noqa: S101  - the kernel's format
    return int(found[1]) * 1024


def show(measured: Measured, console: Console) -> None:
    table = Table(title=f"CPU of one envelope on core {measured.core}, in µs, and ratios of rates")
    headings = ("payload", _BARE, _OURS, _HASHED, _XMLSEC, "of bare RSA", "with hash", "over xmlsec", "disturbed")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "payload" else "right")
    for name, one in measured.timings.items():
        table.add_row(
            name,
            *(f"{one.microseconds[who]:,.0f}" for who in (_BARE, _OURS, _HASHED, _XMLSEC)),
            f"{one.of_bare_rsa:.3f}",
            f"{one.of_bare_rsa_hashed:.3f}",
            f"{one.over_xmlsec:.1f}",
            f"{one.of_bare_rsa_disturbed:.3f} / {one.over_xmlsec_disturbed:.1f}",
        )
    console.print(table)
    if measured.openssl is not None:
        console.print(f"openssl speed rsa2048: {1e6 / measured.openssl:,.0f} µs a signature")
    memory = measured.memory
    console.print(
        f"sealing {memory.size:,} bytes: {memory.objects:,} bytes of Python objects, {memory.resident:,} bytes resident"
    )
    for target in measured.targets:
        bound = "at most" if target.at_most else "at least"
        verdict = "reached" if target.reached else "[bold red]MISSED[/bold red]"
        console.print(f"{target.seen:.3f} {target.name}, {bound} {target.wanted:g}: {verdict}")


def write(measured: Measured, path: Path) -> None:
    content = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        **asdict(measured),
        "targets": [{**asdict(target), "reached": target.reached} for target in measured.targets],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
