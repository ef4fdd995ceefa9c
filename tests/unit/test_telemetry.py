"""What the other side writes must not fill our registry, nor our drivers our log."""

import logging

import pytest

from pipeline.telemetry import Metrics, configure_logs


@pytest.mark.parametrize("driver", ["pika", "psycopg"])
def test_a_driver_writes_no_line_of_its_own_into_the_log(driver: str, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger(driver).setLevel(logging.NOTSET)
    configure_logs("info", json_lines=True)
    logging.getLogger(f"{driver}.pool").warning("error ignored terminating a connection")
    assert caplog.records == []


def test_unknown_faults_are_counted_by_code_and_beyond_forty_codes_together() -> None:
    metrics = Metrics()
    for number in range(100):
        metrics.unknown_fault("mas-st", f"E{number:04d}")
    metrics.unknown_fault("mas-st", "E0000")
    metrics.unknown_fault("asic_bn", "E0099")

    def counted(channel: str, code: str) -> float | None:
        return metrics.registry.get_sample_value("lodge_unknown_fault_total", {"channel": channel, "code": code})

    assert counted("mas-st", "E0000") == 2
    assert counted("mas-st", "E0039") == 1
    assert counted("mas-st", "E0040") is None
    assert counted("mas-st", "other") == 60
    assert counted("asic_bn", "E0099") == 1
