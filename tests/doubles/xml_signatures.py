"""Signatures over elements with a wsu:Id, judged by xmlsec alone."""

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from pipeline.protocol.namespaces import Ns


def verify_with_xmlsec(root: etree._Element, certificate: x509.Certificate) -> None:
    """Raises what xmlsec raises when the one signature in `root` does not hold."""
    context = xmlsec.SignatureContext()
    for element in root.iter("*"):
        if Ns.WSU("Id") in element.attrib:
            context.register_id(element, "Id", Ns.WSU)
    pem = certificate.public_bytes(Encoding.PEM)
    context.key = xmlsec.Key.from_memory(pem, xmlsec.constants.KeyDataFormatCertPem)
    (signature,) = root.iter(Ns.DS("Signature"))
    context.verify(signature)
