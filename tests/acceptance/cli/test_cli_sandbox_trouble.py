"""`lodge sandbox serve` in trouble from the start: a token service that is slow and fails by chance."""

import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from lxml import etree

from pipeline.protocol.key_files import read_credentials
from pipeline.protocol.keystore import select
from pipeline.sandbox.home import Home
from tests.doubles.sandbox_messages import rsa_key, sign, token_request
from tests.services.nursery import Nursling
from tests.services.sandbox_home import new_home


def _ask(url: str, home: Home, tls: ssl.SSLContext) -> tuple[int, bytes, float]:
    credentials = read_credentials(home.keystore_file.read_bytes(), home.keystore_password_file.read_text())
    credential = select(credentials, home.credential().id)
    message = token_request(credential.certificate_der, url, home.applies_to, datetime.now(UTC))
    sign(message, rsa_key(credential.private_key), ("stamp", "to"), signature_id="signature")
    request = urllib.request.Request(  # noqa: S310  - the address is ours
        url, etree.tostring(message), {"Content-Type": "application/soap+xml"}
    )
    started = time.monotonic()
    try:
        with urllib.request.urlopen(request, context=tls) as answer:  # noqa: S310
            return answer.status, answer.read(), time.monotonic() - started
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), time.monotonic() - started


def test_serves_a_token_service_that_is_slow_and_fails_by_chance_in_the_shape_it_is_told(tmp_path: Path) -> None:
    home = new_home(tmp_path / "sandbox")
    log = tmp_path / "sandbox.log"
    options = "--port 0 --sts-latency 0.3 --sts-fault-rate 0.5 --sts-seed 7 --sts-event E2192 --sts-shape subcode"
    command = ["sandbox", "serve", *options.split(), "--sts-variant", "sparse"]
    environment = {**os.environ, "LODGE_HOME": str(tmp_path), "LODGE_LOG_FORMAT": "json"}
    serving = Nursling("sandbox", command, log, lambda: "sandbox.started" in log.read_text(), environment)
    try:
        serving.start()
        url = re.search(r'"sts_url": "([^"]+)"', log.read_text())
        assert url is not None
        tls = ssl.create_default_context(cafile=str(home.ca_file))
        answers = [_ask(url[1], home, tls) for _ in range(12)]
    finally:
        serving.stop()
    assert min(took for _, _, took in answers) >= 0.3
    statuses = Counter(status for status, _, _ in answers)
    assert set(statuses) == {200, 500}
    for status, body, _ in answers:
        assert (b":E2192<" in body) is (status == 500)
        assert b"RequestedAttachedReference" not in body
        assert b"STSFault" not in body
