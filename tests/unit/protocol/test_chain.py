"""Chains of issuers: by name and signature, in whatever order the certificates came."""

from dataclasses import replace
from datetime import timedelta
from itertools import permutations

from pipeline.protocol.chain import chain_of, issuer_of
from tests.doubles.synthetic_credentials import (
    ISSUED_AT,
    certificate_of,
    credential,
    key,
    root_authority,
    sub_authority,
)

NOW = ISSUED_AT + timedelta(days=1)
AUTHORITIES = (sub_authority().certificate, root_authority().certificate)


def test_a_chain_is_complete_when_it_ends_in_a_self_signed_root_in_any_order() -> None:
    strange = certificate_of("Stranger", "SYNTHETIC", key("Stranger").public_key(), key("Stranger"), 3)
    for order in permutations((*AUTHORITIES, strange)):
        chain = chain_of(replace(credential(), chain=order), NOW)
        assert chain.complete
        assert chain.issuers == ("Synthetic Sub CA", "Synthetic Root CA")
    assert issuer_of(credential()) == "Synthetic Sub CA"


def test_a_missing_authority_is_named() -> None:
    for missing, name, found in (
        (AUTHORITIES[0], "Synthetic Sub CA", ()),
        (AUTHORITIES[1], "Synthetic Root CA", ("Synthetic Sub CA",)),
    ):
        chain = chain_of(replace(credential(), chain=tuple(one for one in AUTHORITIES if one != missing)), NOW)
        assert not chain.complete
        assert (chain.problem, chain.issuers) == (f"no certificate of the issuer {name!r}", found)


def test_an_authority_of_the_right_name_and_the_wrong_key_issued_nothing() -> None:
    impostor = certificate_of("Synthetic Sub CA", "SYNTHETIC", key("Stranger").public_key(), root_authority(), 4)
    chain = chain_of(replace(credential(), chain=(impostor, AUTHORITIES[1])), NOW)
    assert chain.problem == "no certificate of the issuer 'Synthetic Sub CA'"


def test_an_expired_authority_and_a_leaf_of_nobody_are_told() -> None:
    late = ISSUED_AT + timedelta(days=731)
    assert chain_of(credential(), late).problem == "the issuer 'Synthetic Sub CA' has expired"
    alone = certificate_of("Payroll", "11000002568", key("Payroll").public_key(), key("Payroll"), 6)
    assert chain_of(replace(credential(), certificate=alone), NOW).problem == "self-signed: no authority issued it"
