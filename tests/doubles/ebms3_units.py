"""Any ebMS 3.0 message whatever: a Hypothesis strategy for each kind, with every text that XML can hold."""

from datetime import UTC, datetime

from hypothesis import strategies as st

from pipeline.protocol.ebms3 import (
    Agreement,
    Collaboration,
    EbmsError,
    ErrorSeverity,
    ErrorSignal,
    MessageInfo,
    PartInfo,
    Party,
    PartyId,
    Property,
    PullRequest,
    Receipt,
    SignedReference,
    UserMessage,
)

XML_TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufffe\uffff"), max_size=12)
VALUE = st.builds(lambda text: f"v{text.strip()}v", XML_TEXT)
"""Blanks at either end of a value do not count (xs:token); nothing is written that is only blanks."""
ATTRIBUTE = st.one_of(st.none(), XML_TEXT)
ID = st.builds("{}@example.test".format, st.uuids())
MOMENT = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001  - aware by timezones=
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
INFO = st.builds(MessageInfo, ID, MOMENT, st.one_of(st.none(), ID))
PARTY = st.builds(Party, st.lists(st.builds(PartyId, VALUE, ATTRIBUTE), min_size=1, max_size=2).map(tuple), VALUE)
PROPERTIES = st.lists(st.builds(Property, VALUE, VALUE, ATTRIBUTE), max_size=4, unique_by=lambda one: one.name).map(
    tuple
)
REFERENCE = st.builds(
    SignedReference, VALUE, VALUE, st.binary(min_size=1, max_size=32), st.lists(VALUE, max_size=2).map(tuple)
)
ERROR = st.builds(
    EbmsError,
    st.integers(1, 303).map("EBMS:{:04}".format),
    st.sampled_from(ErrorSeverity),
    ATTRIBUTE,
    ATTRIBUTE,
    st.none(),
    ATTRIBUTE,
)
UNITS = st.one_of(
    st.builds(
        UserMessage,
        INFO,
        PARTY,
        PARTY,
        st.builds(
            Collaboration,
            VALUE,
            VALUE,
            VALUE,
            ATTRIBUTE,
            st.one_of(st.none(), st.builds(Agreement, VALUE, ATTRIBUTE, ATTRIBUTE)),
        ),
        PROPERTIES,
        st.lists(st.builds(PartInfo, ATTRIBUTE, PROPERTIES), max_size=3).map(tuple),
    ),
    st.builds(PullRequest, INFO, st.one_of(st.none(), ID), ATTRIBUTE),
    st.builds(Receipt, INFO, st.lists(REFERENCE, max_size=4).map(tuple)),
    st.builds(ErrorSignal, INFO, st.lists(ERROR, min_size=1, max_size=3).map(tuple)),
)
