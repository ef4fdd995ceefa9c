"""ZIPs that were made to do harm are refused by the name of the member, before anything of them is inflated."""

import struct
import warnings
import zipfile
from pathlib import Path

import pytest

from pipeline.evidence.container import Container, Limits
from pipeline.lodgment.errors import ConfigurationError, RefusedError


def zipped(folder: Path, *members: tuple[str, bytes]) -> Path:
    path = folder / "evidence.zip"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as container:
        warnings.filterwarnings("ignore", "Duplicate name")
        for name, content in members:
            container.writestr(name, content)
    return path


def inflate_all(path: Path, limits: Limits | None) -> None:
    with Container(path, limits or Limits()) as container:
        for name in container.names:
            list(container.pieces(name))


def refused(path: Path, limits: Limits | None = None) -> RefusedError:
    with pytest.raises(RefusedError) as error:
        inflate_all(path, limits)
    return error.value


@pytest.mark.parametrize(
    "name",
    [
        "../manifest.json",
        "/etc/passwd",
        "envelopes/../../x",
        "envelopes/./x",
        "envelopes\\0001.xml",
        "C:/x",
        "envelopes/",
        "",
        ".hidden",
        "a//b",
        "a\nb",
        "manifest.json\0.txt",
        "ünïcode.json",
        "con trol.json",
    ],
)
def test_a_name_that_no_evidence_has_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "evidence.zip"
    entry = zipfile.ZipInfo("placeholder")
    entry.filename = name
    with zipfile.ZipFile(path, "w") as container:
        container.writestr(entry, b"x")
    assert refused(path).code == "evidence.name"


def test_two_members_of_one_name_are_refused_also_in_another_spelling(tmp_path: Path) -> None:
    assert refused(zipped(tmp_path, ("a.json", b"1"), ("a.json", b"2"))).code == "evidence.duplicate"
    found = refused(zipped(tmp_path, ("a.json", b"1"), ("A.json", b"2")))
    assert (found.code, "A.json" in str(found)) == ("evidence.duplicate", True)


def test_a_member_that_inflates_too_far_is_refused_by_what_it_says(tmp_path: Path) -> None:
    path = zipped(tmp_path, ("bomb.bin", bytes(2_000_000)))
    assert path.stat().st_size < 10_000
    assert refused(path, Limits(member_bytes=1_000_000)).code == "evidence.size"
    path = zipped(tmp_path, ("a.bin", bytes(600_000)), ("b.bin", bytes(600_000)))
    assert refused(path, Limits(total_bytes=1_000_000)).code == "evidence.size"
    assert refused(path, Limits(members=1)).code == "evidence.size"


def test_a_member_that_lies_about_its_size_is_never_read_beyond_it(tmp_path: Path) -> None:
    path = zipped(tmp_path, ("bomb.bin", bytes(2_000_000)))
    content = path.read_bytes().replace(struct.pack("<I", 2_000_000), struct.pack("<I", 1_000))
    path.write_bytes(content)
    found = refused(path)
    assert (found.code, "bomb.bin" in str(found)) == ("evidence.damaged", True)


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path, ("a.bin", bytes(range(256)) * 40), ("b.bin", bytes(range(256)) * 40))
    content = bytearray(path.read_bytes())
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 4)
    # The second entry of the directory points to the data of the first, and both claim most of the file.
    for entry in (first, second):
        content[entry + 20 : entry + 24] = struct.pack("<I", len(content) - 200)
    path.write_bytes(bytes(content))
    assert refused(path).code == "evidence.size"


def test_what_is_encrypted_or_compressed_otherwise_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evidence.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as container:
        container.writestr("a.bin", b"x" * 1000)
    assert refused(path).code == "evidence.encrypted"
    path = zipped(tmp_path, ("a.bin", b"x" * 1000))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))
    assert refused(path).code == "evidence.encrypted"


def test_a_zip_that_was_cut_or_damaged_is_told(tmp_path: Path) -> None:
    path = zipped(tmp_path, ("a.bin", bytes(range(256)) * 40))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert refused(path).code == "evidence.zip"
    damaged = bytearray(whole)
    damaged[60] ^= 0xFF
    path.write_bytes(bytes(damaged))
    assert refused(path).code == "evidence.damaged"
    path.write_bytes(b"no ZIP at all")
    assert refused(path).code == "evidence.zip"
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Container(tmp_path / "nowhere.zip")


def test_what_is_read_whole_must_be_small(tmp_path: Path) -> None:
    path = zipped(tmp_path, ("manifest.json", b"x" * 1000))
    with Container(path, Limits(small_bytes=999)) as container:
        with pytest.raises(RefusedError, match=r"manifest\.json"):
            container.read("manifest.json")
        assert b"".join(container.pieces("manifest.json")) == b"x" * 1000
