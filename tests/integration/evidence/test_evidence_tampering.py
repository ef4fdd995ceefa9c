"""Evidence that was changed in any way does not hold, and what was changed is told by its name."""

import asyncio
import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.evidence.checking import Checked, Verdict, check
from pipeline.evidence.manifest import MANIFEST, SIGNATURE, SIGNER, as_json
from pipeline.evidence.packing import Terms, pack
from pipeline.evidence.signing import SigningKey, Vouchers, load_signing_key, read_vouchers
from pipeline.ledger import migrate
from pipeline.ledger.dossier import dossier
from pipeline.ledger.session import Ledger, Tx
from pipeline.ledger.vault import Vault
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.lodgment import Lodgment
from tests.doubles.evidence_keys import key_file, key_of, pem_of, public_pem
from tests.doubles.kept_lodgments import keep_business_name, keep_pay_event

Members = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Packed:
    """Evidence of the two lodgments, whole and without documents; and the key that signed all four."""

    files: dict[str, Members]
    key: SigningKey
    vouchers: Vouchers


async def _packed(tx: Tx, row: Lodgment, path: Path, terms: Terms) -> Members:
    book = await dossier(tx, row.id)
    assert book is not None
    with path.open("w+b") as target:
        await pack(tx, book, target, terms)
    with zipfile.ZipFile(path) as container:
        return {name: container.read(name) for name in container.namelist()}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """Made once: no test changes it."""
    folder = tmp_path_factory.mktemp("packed")
    url = f"sqlite:///{folder / 'ledger.db'}"
    migrate.upgrade(url)
    key = load_signing_key(key_file(folder, pem_of(key_of("ed25519"))), None)
    trust = key_file(folder, public_pem(key_of("ed25519")), name="trust.pem")
    return Packed(asyncio.run(_all_packed(url, folder / "packed.zip", key)), key, read_vouchers(trust))


async def _all_packed(url: str, path: Path, key: SigningKey) -> dict[str, Members]:
    ledger = Ledger(url, Vault([b"synthetic master key, 32 bytes!!"]))
    files = {}
    async with ledger.transaction() as tx:
        rows = {
            "pay event": await keep_pay_event(tx),
            "business name": await keep_business_name(tx),
            "odd pay event": await keep_pay_event(tx, signed=False, agreeing=False),
            "unsigned business name": await keep_business_name(tx, basic=True),
        }
        for name, row in rows.items():
            files[name] = await _packed(tx, row, path, Terms(key=key))
            files[f"{name} without"] = await _packed(tx, row, path, Terms(documents=False, key=key))
    await ledger.close()
    return files


def checked(folder: Path, members: Members, vouchers: Vouchers | None = None) -> Checked:
    path = folder / "tampered.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as container:
        for name, content in members.items():
            container.writestr(name, content)
    return check(path, vouchers)


def failed(found: Checked) -> dict[str, str]:
    return {one.what: one.text for one in found.findings if one.verdict is Verdict.FAIL}


def said(found: Checked, what: str) -> str:
    return " | ".join(one.text for one in found.findings if one.what == what)


def remade(members: Members, change: Callable[[Members], None], key: SigningKey | None) -> Members:
    """What an attacker makes who lists everything anew, and signs with a key of their own if they have one."""
    made = {name: content for name, content in members.items() if name not in {MANIFEST, SIGNATURE, SIGNER}}
    change(made)
    manifest = json.loads(members[MANIFEST])
    manifest["files"] = [
        {"name": name, "role": "any", "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        for name, content in sorted(made.items())
    ]
    manifest["signer"] = None if key is None else key.signer.model_dump()
    made[MANIFEST] = as_json(manifest)
    if key is not None:
        made |= {SIGNATURE: key.sign(made[MANIFEST]), SIGNER: key.pem}
    return made


def test_evidence_as_it_was_written_holds(tmp_path: Path, packed: Packed) -> None:
    for name, members in packed.files.items():
        found = checked(tmp_path, members, packed.vouchers)
        assert found.good, (name, failed(found))
        assert "is trusted" in said(found, SIGNER)


def test_the_signatures_in_what_was_sent_are_looked_at(tmp_path: Path, packed: Packed) -> None:
    whole = checked(tmp_path, packed.files["pay event"])
    assert "RSA signature over header, token, body and document" in said(whole, "envelopes/0001.mime")
    assert "asks for the outcome of" in said(whole, "envelopes/0003.xml")
    assert "repeats all 4 digests" in said(whole, "replies/0002.xml")
    assert "signed by" in said(whole, "replies/0003.mime")
    without = checked(tmp_path, packed.files["pay event without"])
    assert "RSA signature over header, token, body and document" in said(without, "envelopes/0001.head")
    assert "was left out" in said(without, "payload")
    name = checked(tmp_path, packed.files["business name"])
    assert "RSA signature over body and certificate" in said(name, "envelopes/0001.xml")
    assert "without the proof key" in said(name, "envelopes/0001.xml")
    assert "cannot be checked" in said(checked(tmp_path, packed.files["business name without"]), "envelopes/0001.head")
    basic = checked(tmp_path, packed.files["unsigned business name"])
    assert "HTTP Basic" in said(basic, "envelopes/0001.xml")


def test_an_answer_that_does_not_fit_is_noted_and_is_no_fault_of_the_evidence(tmp_path: Path, packed: Packed) -> None:
    found = checked(tmp_path, packed.files["odd pay event"])
    assert found.good
    assert "does not fit what was sent" in said(found, "replies/0002.xml")
    assert "is not signed" in said(found, "replies/0003.mime")


@pytest.mark.parametrize("which", ["pay event", "pay event without", "business name", "business name without"])
def test_every_member_that_is_changed_or_taken_out_is_named(tmp_path: Path, packed: Packed, which: str) -> None:
    members = packed.files[which]
    listed = [name for name in members if name not in {MANIFEST, SIGNATURE, SIGNER}]
    assert len(listed) >= 9
    for name in listed:
        middle = len(members[name]) // 2
        flipped = members[name][:middle] + bytes([members[name][middle] ^ 1]) + members[name][middle + 1 :]
        assert "it was changed" in failed(checked(tmp_path, {**members, name: flipped}))[name], name
        assert "it was changed" in failed(checked(tmp_path, {**members, name: members[name] + b"\n"}))[name], name
        rest = {other: content for other, content in members.items() if other != name}
        assert "is missing" in failed(checked(tmp_path, rest))[name], name


def test_what_was_added_is_named(tmp_path: Path, packed: Packed) -> None:
    found = checked(tmp_path, {**packed.files["pay event"], "replies/9999.xml": b"<soap/>"})
    assert failed(found) == {"replies/9999.xml": "is not in the manifest: it was added"}


def test_a_manifest_that_was_changed_does_not_have_the_signature(tmp_path: Path, packed: Packed) -> None:
    members = packed.files["pay event"]
    changed = members[MANIFEST].replace(b'"state": "partially_accepted"', b'"state": "accepted"')
    assert changed != members[MANIFEST]
    assert SIGNATURE in failed(checked(tmp_path, {**members, MANIFEST: changed}))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda text: text.replace(b"  ", b" "), "evidence.manifest"),
        (lambda text: text.replace(b'"version": 1\n', b'"version": 2\n'), "evidence.schema"),
        (lambda text: text.replace(b"lodgment-evidence", b"other-evidence"), "evidence.schema"),
        (lambda text: text.replace(b'{\n  "absent"', b'{\n  "absent": [],\n  "absent"'), "evidence.manifest"),
        (lambda text: text.replace(b'"documents": "included"', b'"documents": "perhaps"'), "evidence.manifest"),
        (lambda text: text.replace(b'"personal_data": true', b'"personal_data": true,\n  "x": 1'), "evidence.manifest"),
        (lambda text: text.replace(b'"README.txt"', b'"../README.txt"'), "evidence.manifest"),
        (lambda text: text[:-20], "evidence.schema"),
        (lambda _: b"[" * 100_000, "evidence.manifest"),
        (lambda _: b"[]", "evidence.schema"),
        (lambda _: b"\xff", "evidence.manifest"),
    ],
)
def test_a_manifest_that_two_readers_could_read_differently_is_refused(
    tmp_path: Path, packed: Packed, change: Callable[[bytes], bytes], code: str
) -> None:
    members = packed.files["pay event"]
    changed = change(members[MANIFEST])
    assert changed != members[MANIFEST]
    with pytest.raises(RefusedError, match=r"manifest\.json") as refused:
        checked(tmp_path, {**members, MANIFEST: changed})
    assert refused.value.code in {code, "evidence.manifest"}


def test_a_signature_that_was_swapped_or_taken_away_is_told(tmp_path: Path, packed: Packed) -> None:
    members, other = packed.files["pay event"], packed.files["business name"]
    forger = load_signing_key(key_file(tmp_path, pem_of(key_of("ec", "forger")), name="forger.pem"), None)
    assert SIGNATURE in failed(checked(tmp_path, {**members, SIGNATURE: other[SIGNATURE]}))
    assert SIGNATURE in failed(checked(tmp_path, {**members, SIGNATURE: b""}))
    assert SIGNER in failed(checked(tmp_path, {**members, SIGNER: forger.pem}))
    assert SIGNER in failed(checked(tmp_path, {**members, SIGNER: b"nonsense"}))
    both = {**members, SIGNER: forger.pem, SIGNATURE: forger.sign(members[MANIFEST])}
    assert SIGNER in failed(checked(tmp_path, both))
    for gone in (SIGNATURE, SIGNER):
        rest = {name: content for name, content in members.items() if name != gone}
        assert MANIFEST in failed(checked(tmp_path, rest))
    with pytest.raises(RefusedError, match=r"manifest\.json"):
        checked(tmp_path, {name: content for name, content in members.items() if name != MANIFEST})


def test_who_makes_it_anew_with_a_key_of_their_own_is_not_trusted(tmp_path: Path, packed: Packed) -> None:
    def rejected(members: Members) -> None:
        members["lodgment.json"] = members["lodgment.json"].replace(b"partially_accepted", b"rejected")

    members = packed.files["pay event"]
    forger = load_signing_key(key_file(tmp_path, pem_of(key_of("ec", "forger")), name="forger.pem"), None)
    forged = remade(members, rejected, forger)
    alone = checked(tmp_path, forged)
    assert alone.good
    assert "nobody vouches for this key" in said(alone, SIGNER)
    assert set(failed(checked(tmp_path, forged, packed.vouchers))) == {SIGNER}
    unsigned = remade(members, rejected, None)
    assert "is not signed" in said(checked(tmp_path, unsigned), MANIFEST)
    assert set(failed(checked(tmp_path, unsigned, packed.vouchers))) == {MANIFEST}


@pytest.mark.parametrize(
    ("which", "name", "old", "new"),
    [
        ("pay event", "envelopes/0001.mime", b"Synthetic Pay<", b"Synthetic Bay<"),
        ("pay event", "envelopes/0003.xml", b"PullRequest", b"PullRequesT"),
        ("business name", "envelopes/0001.xml", b"Sons", b"Sins"),
        ("pay event without", "envelopes/0001.head", b"Synthetic Pay<", b"Synthetic Bay<"),
    ],
)
def test_an_envelope_that_the_operator_signs_for_still_needs_its_own_signature(
    tmp_path: Path, packed: Packed, which: str, name: str, old: bytes, new: bytes
) -> None:
    """Even the operator cannot change what was sent: the credential's signature is over it."""
    members = packed.files[which]
    assert old in members[name]

    def change(made: Members) -> None:
        made[name] = made[name].replace(old, new)

    altered = remade(members, change, packed.key)
    manifest = json.loads(altered[MANIFEST])
    for envelope in manifest["envelopes"]:
        if envelope["file"] == name:
            envelope["sha256"] = hashlib.sha256(altered[name]).hexdigest()
    if which == "business name":
        # the document stands in the envelope: it is changed along
        altered["payload.xml"] = altered["payload.xml"].replace(old, new)
        digest = hashlib.sha256(altered["payload.xml"]).hexdigest()
        manifest["payload"]["sha256"] = digest
        for file in manifest["files"]:
            file["sha256"] = digest if file["name"] == "payload.xml" else file["sha256"]
    altered[MANIFEST] = as_json(manifest)
    altered |= {SIGNATURE: packed.key.sign(altered[MANIFEST])}
    found = failed(checked(tmp_path, altered, packed.vouchers))
    assert set(found) == {name}
    assert "does not prove what it should" in found[name]
