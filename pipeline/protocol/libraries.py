"""Which libxml2 the XML libraries run on: lxml and xmlsec pass trees to each other in memory, so it must be one."""

from dataclasses import dataclass

from lxml import etree

from pipeline.lodgment.errors import ConfigurationError

REMEDY = "Install both from requirements.lock again (`make setup`): their wheels are built on the same libxml2."

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
        import xmlsec
    except Exception as error:  # noqa: BLE001  - beside another libxml2 it refuses with an error of its own, not yet importable
        return XmlLibraries(etree.LIBXML_VERSION, None, " ".join(str(error).split()) or type(error).__name__)
    return XmlLibraries(etree.LIBXML_VERSION, xmlsec.get_libxml_version())


def require_one_libxml2(libraries: XmlLibraries) -> None:
    """Stop where trees would be passed between two libxml2.

    Raises:
        ConfigurationError: `libraries.libxml2`.
    """
    ours = _text(libraries.lxml)
    if libraries.xmlsec is None:
        found = f"lxml has libxml2 {ours}, and xmlsec does not load beside it: {libraries.refused}"
    elif libraries.xmlsec != libraries.lxml:
        found = f"lxml has libxml2 {ours}, xmlsec has {_text(libraries.xmlsec)}; it must be one"
    else:
        return
    raise ConfigurationError("libraries.libxml2", f"{found}. {REMEDY}")


def _text(version: Version) -> str:
    return ".".join(map(str, version))
