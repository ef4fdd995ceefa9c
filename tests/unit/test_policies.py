"""Policies as settings say them: what differs, what is refused and how, and what is in force."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from pipeline.lodgment.decisions import Closedown
from pipeline.lodgment.doors import Door
from pipeline.lodgment.errors import ConfigurationError
from pipeline.lodgment.replay_run import ReplayPolicy
from pipeline.policies import breaker_policies, doors, replay_policy, retry_policies
from pipeline.settings import EnvironmentSettings, PolicySettings, Settings
from tests.unit.test_sts_settings import environment

BN = ("business-names", "bnLodgeApplication")
QUERY = ("business-names", "queryNameAvailability")
LEASE = timedelta(minutes=4)
SBR2 = {
    "gateways": {"west": "https://west.invalid", "east": "https://east.invalid"},
    "gateway": "west",
    "applies_to": "https://agency.invalid",
    "product_id": "SYNTHETIC",
    "vendor": "Synthetic",
    "name": "Synthetic",
    "version": "1",
    "domain": "synthetic.invalid",
}


def having(*sections: dict[str, object], **changes: object) -> EnvironmentSettings:
    return environment(policies=sections, **changes)


def refused(*sections: dict[str, object]) -> str:
    with pytest.raises(ConfigurationError) as found:
        retry_policies(having(*sections))
    assert found.value.code == "settings.policies"
    return str(found.value)


def test_what_no_section_is_about_stays_as_it_is_and_the_last_that_fits_counts() -> None:
    plain = retry_policies(environment())["asic_bn"]
    found = retry_policies(
        having(
            {"channel": "asic_bn", "poll_first": 90, "unknown_limit": 3},
            {"channel": "asic_bn", "service": QUERY[0], "action": QUERY[1], "poll_first": 30},
        )
    )["asic_bn"]
    assert (found[BN].poll.first, found[BN].unknown_limit) == (timedelta(seconds=90), 3)
    assert (found[QUERY].poll.first, found[QUERY].unknown_limit) == (timedelta(seconds=30), 3)
    assert found[BN].unavailable == plain[BN].unavailable


def test_a_calendar_is_given_by_service() -> None:
    start, end = datetime(2026, 12, 24, 1, tzinfo=UTC), datetime(2027, 1, 1, 19, tzinfo=UTC)
    window = {"start": start, "end": end, "takes_documents": False}
    found = retry_policies(having({"channel": "asic_bn", "closedowns": [window]}))["asic_bn"][BN]
    assert found.closedowns == (Closedown(start, end, takes_documents=False),)
    assert found.taken_from(start) == end
    assert found.taken_from(end) == end


def test_breakers_are_given_by_channel_and_service() -> None:
    found = breaker_policies(
        having(
            {"channel": "asic_bn", "breaker_failures": 3, "breaker_ramp": [5, 50]},
            {"channel": "asic_bn", "service": "business-names", "breaker_probe_first": 60, "breaker_quiet": 0},
        ),
        LEASE,
    )
    policy = found.of(Door("asic_bn", "business-names"))
    assert (policy.consecutive, policy.ramp, policy.quiet) == (3, (5, 50), 0)
    assert policy.probe.first == timedelta(minutes=1)
    assert policy.probe_patience > LEASE
    assert found.of(Door("sbr2_stp", "payevnt")).consecutive == found.usual.consecutive


def test_every_service_gateway_and_question_has_a_door() -> None:
    assert doors(environment()) == ["asic_bn", "asic_bn/business-names"]
    assert doors(environment(sbr2=SBR2))[2:] == [
        "sbr2_stp",
        "sbr2_stp/payevnt@east",
        "sbr2_stp/payevnt/polls@east",
        "sbr2_stp/payevnt@west",
        "sbr2_stp/payevnt/polls@west",
    ]


def test_a_section_about_nothing_says_what_there_is() -> None:
    assert "policies[1].channel: there is no 'asic'" in refused({"channel": "asic_bn"}, {"channel": "asic"})
    assert "there are: business-names" in refused({"channel": "asic_bn", "service": "names"})
    said = refused({"channel": "asic_bn", "service": "business-names", "action": "lodge"})
    assert "bnLodgeApplication" in said


def test_delays_and_watches_that_make_no_sense_together_are_refused_with_their_names() -> None:
    assert "poll_first (1:00:00) must not be longer than poll_longest" in refused(
        {"channel": "asic_bn", "poll_first": 3600}
    )
    assert "must follow each other" in refused({"channel": "asic_bn", "late_after": 7200, "give_up_after": 3600})
    with pytest.raises(ConfigurationError, match="breaker_probe_first must not be longer"):
        breaker_policies(having({"channel": "asic_bn", "breaker_probe_first": 3600}), LEASE)


@pytest.mark.parametrize(
    ("section", "rule"),
    [
        ({"channel": "asic_bn", "poll_frist": 5}, "Extra inputs are not permitted"),
        ({"channel": "asic_bn", "poll_first": 0}, "greater than 0"),
        ({"channel": "asic_bn", "action": "x"}, "action needs service"),
        ({"channel": "asic_bn", "service": "s", "action": "x", "breaker_failures": 3}, "leave action out"),
        ({"channel": "asic_bn", "breaker_ratio": 2}, "less than or equal to 1"),
        (
            {"channel": "asic_bn", "closedowns": [{"start": "2026-12-24T00:00Z", "end": "2026-12-23T00:00Z"}]},
            "must end after it starts",
        ),
    ],
)
def test_a_section_that_is_wrong_in_itself_is_refused(section: dict[str, object], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        PolicySettings.model_validate(section)


def test_the_later_warning_of_a_due_date_cannot_be_the_longer_one() -> None:
    with pytest.raises(ValidationError, match="due_last must not be longer than due_soon"):
        Settings(due_soon=timedelta(hours=1), due_last=timedelta(hours=2))


def test_replays_run_as_the_settings_say_and_as_they_come_where_nothing_is_said() -> None:
    assert replay_policy(Settings().replay) == ReplayPolicy()
    said = replay_policy(Settings.model_validate({"replay": {"slower": 1.5, "rate": 3, "window": "PT30S"}}).replay)
    assert (said.rate, said.pace.slower, said.pace.window) == (3, 1.5, timedelta(seconds=30))
    with pytest.raises(ValidationError, match="greater than 1"):
        Settings.model_validate({"replay": {"slower": 1}})
