"""Inputs that once broke a promise, by target: synthetic, and as short as shows it."""

from collections.abc import Mapping

from tests.doubles import sbr2
from tests.doubles.sts_replies import PROOF_KEY_TEXT, token_reply

_LONG = b"A" * 5000
_KEY = b"QUFB" * 16
_PAYEE = b"51824753556,Synthetic Bakery,123456782,1990-02-01,61000.50\n"
_HIDDEN = b"<a:b/><?xmlx y?>"
"""An undeclared prefix is an error that libxml2 goes on after; lxml sees only the last entry of its log, a warning."""

CRASHERS: Mapping[str, tuple[bytes, ...]] = {
    # Names of the producer's own stood in the refusal as they came, however long and with whatever in them.
    "job": (
        b'{"' + _LONG + b'": 1}',
        b'{"a\\u007f\\u001b[2Jb": 1}',
        b'{"sender": {"a\\nb": 1}}',
        b"{" + b",".join(b'"a%d": 1' % number for number in range(500)) + b"}",
    ),
    "submit-ndjson": (b'{"' + _LONG + b'": 1}\n', b'{"a\\u001b[2J": 1}\n'),
    # The same, and a value that stands where a name should.
    "settings-file": (
        b'"' + _LONG + b'" = 1\n',
        b'"a\\u001b[2J" = 1\n',
        b'"amqps://lodge:SYNTHETIC-SECRET@broker.example.test" = 1\n',
        b'["amqps://lodge:SYNTHETIC-SECRET@broker.example.test"]\n' * 2,
    ),
    # A time that exists, though not in UTC; and what was typed stood in the error, however long.
    "where": (
        b"received>=0001-01-01T00:00:00+14:00",
        b"received<9999-12-31T23:59:59-14:00",
        b"received>=" + _LONG,
        b"label.a\x12\x1b[2J>=b",
        b"label." + _LONG + b">=b",
        b"state=" + _LONG,
        _LONG + b"=a",
        b"a" + b" " * 40_000,
    ),
    # What libxml2 says of a document quotes it, line breaks and values and all.
    # The third is the target's own fault: the other implementation escapes what stands in a processing instruction.
    "xml": (b"<a\0/>", b"<" + _LONG + b"></b>", b"<a><?p i?~<b c='&'/>?></a>"),
    "token-reply": (
        token_reply().replace(b"http://www.w3.org/2003", b" %b http://www.w3.org/2003" % PROOF_KEY_TEXT.encode(), 1),
        _HIDDEN,
    ),
    "keystore": (b"<" + _LONG + b"></b>", b"<a\0/>"),
    # The second: an id of any length, and with line breaks, stood in each fault.
    "pay-event": (
        b'<Record_Delimiter DocumentID="1" DocumentType="PARENT" DocumentName="PAYEVNT"/><a\0/>',
        b'<Record_Delimiter DocumentID="'
        + _LONG[:900]
        + b'&#10;" DocumentType="PARENT" DocumentName="PAYEVNT"/><PAYEVNT xmlns="http://www.sbr.gov.au/ato/payevnt"/>',
    ),
    # Elements without namespace whose names hold a colon came through, and a reply with them raised a ValueError.
    "asic-reply": (b"200 application/soap+xml\n" + _HIDDEN,),
    "sbr2-reply": (b"200 application/soap+xml\n" + _HIDDEN,),
    "soap-envelope": (b"\n" + _HIDDEN,),
    # The second is the target's own fault: a time to the microsecond is written to the millisecond.
    "ebms3": (_HIDDEN, sbr2.error("EBMS:0301").replace(b"Z</eb:Timestamp>", b"9999Z</eb:Timestamp>")),
    # Beginnings of declarations that never end were looked for to the end, each of them.
    "sbr-events": (b"<" + _LONG + b"></b>", b"<?xml " * 25_000),
    # `xmlns=""` was taken for a declaration that is lost.
    "splicing": (b'<b:r xmlns:b="urn:b" xmlns:u="urn:u" xmlns=""> xmlns="" </b:r>',),
    # Without the dashes of its first line, the library takes a key for a part of the name that it quotes; and a `<` in
    # their place made XML of it, whose first name was quoted.
    "pem": (
        b"<" + _KEY,
        b"-----BEGIN PRIVATE KEY\n%b\n-----BEGIN CERTIFICATE-----\n%b\n-----END CERTIFICATE-----\n" % (_KEY, _KEY),
    ),
    # Without a header line, a payee's cells were taken for names of columns, and shown.
    "payee-csv": (_PAYEE * 2, b"a" + _LONG + b",b\n1,2\n"),
    "payee-ndjson": (b'{"' + _LONG + b'": "a"}\n', b'{"123456782": []}\n'),
    # Names of columns were shown at any length, and compared each with each.
    "submit-csv": (_LONG + b",b\n1,2\n", b"job_id,payload.file\na," + _LONG + b"\n"),
    "software-ids": (b"a," * 16_000 + b"\n",),
    # Cut after a blank, and so another text when it was cleaned again.
    "foreign-text": (b"a" * 999 + b" b",),
}
