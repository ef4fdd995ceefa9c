"""A cache key that could stand for two employers would hand one of them the other's token."""

from dataclasses import fields, replace
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.lodgment.references import TokenKey

_TEXT = st.text(max_size=12)
_MAYBE = st.none() | _TEXT
_KEYS = st.builds(
    TokenKey,
    environment=_TEXT,
    sts=_TEXT,
    applies_to=_TEXT,
    credential=_TEXT,
    second_party=_MAYBE,
    software_id=_MAYBE,
    claims=st.lists(_TEXT, max_size=3).map(tuple),
    key_size=st.sampled_from((128, 192, 256, 512)),
    saml_version=st.sampled_from(("1.1", "2.0")),
)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("environment", "sts", "applies_to", "credential"), _TEXT),
    **dict.fromkeys(("second_party", "software_id"), _MAYBE),
    "claims": st.lists(_TEXT, max_size=3).map(tuple),
    "key_size": st.integers(1, 1024),
    "saml_version": st.sampled_from(("", "1.1", "2.0")),
}
_PLAIN = TokenKey("e", "s", "a", "c", None, None, (), 512)


def test_every_field_of_a_key_is_under_test() -> None:
    assert set(_VALUES) == {field.name for field in fields(TokenKey)}


@given(_KEYS, _KEYS)
@example(_PLAIN, replace(_PLAIN, second_party=""))
@example(_PLAIN, replace(_PLAIN, second_party="null"))
@example(replace(_PLAIN, second_party="1"), replace(_PLAIN, software_id="1"))
@example(replace(_PLAIN, environment="es", sts=""), replace(_PLAIN, environment="e", sts="s"))
@example(replace(_PLAIN, claims=("a", "b")), replace(_PLAIN, claims=("a,b",)))
@example(replace(_PLAIN, claims=("a", "b")), replace(_PLAIN, claims=("b", "a")))
@example(replace(_PLAIN, claims=()), replace(_PLAIN, claims=("",)))
@example(replace(_PLAIN, credential='c","x":"'), replace(_PLAIN, credential="c", second_party='","x":"'))
@example(replace(_PLAIN, credential="é"), replace(_PLAIN, credential="e\u0301"))
@example(replace(_PLAIN, credential="é"), replace(_PLAIN, credential="\\u00e9"))
@example(replace(_PLAIN, credential="\x00"), replace(_PLAIN, credential=""))
def test_two_keys_share_a_hash_only_if_they_are_the_same(one: TokenKey, other: TokenKey) -> None:
    assert (one.hash() == other.hash()) == (one == other)


@given(_KEYS, st.data())
def test_a_change_of_any_single_field_makes_another_key(key: TokenKey, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(_VALUES)))
    changed = replace(key, **{name: data.draw(_VALUES[name])})
    assert (changed.hash() == key.hash()) == (getattr(changed, name) == getattr(key, name))


@given(_KEYS)
def test_the_hash_of_a_key_is_its_own_in_every_process(key: TokenKey) -> None:
    again = TokenKey(**{field.name: getattr(key, field.name) for field in fields(TokenKey)})
    assert again.hash() == key.hash()
    assert len(key.hash()) == 64
    assert set(key.hash()) <= set("0123456789abcdef")
