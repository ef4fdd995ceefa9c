"""Sealing stays cheap: bounds that only another construction would break, whatever else the machine does."""

from benchmarks.seal import objects_grown, timing


def test_sealing_20_kilobytes_takes_less_than_half_of_what_xmlsec_takes() -> None:
    assert timing(20_000, turns=10).over_xmlsec_disturbed > 2


def test_sealing_5_megabytes_copies_none_of_them() -> None:
    assert objects_grown(5_000_000) < 200_000
