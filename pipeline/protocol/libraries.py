"""Which libxml2 the XML libraries run on: lxml and xmlsec pass trees to each other in memory, so it must be one."""

from dataclasses import dataclass

from lxml import etree

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class XmlLibraries:
    """The libxml2 versions in use. `refused` is what xmlsec says when it will not load beside this lxml."""

    lxml: Version
    xmlsec: Version | None
    refused: str = ""


def xml_libraries() -> XmlLibraries:
    """What is loaded in this process."""
    try:
        import xmlsec  # refuses to load where its libxml2 is another one than lxml's
    except ImportError as error:
        return XmlLibraries(etree.LIBXML_VERSION, None, " ".join(str(error).split()))
    return XmlLibraries(etree.LIBXML_VERSION, xmlsec.get_libxml_version())
