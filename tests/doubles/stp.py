"""Synthetic Single Touch Payroll documents, shaped like what is known of PAYEVNT.0004; all of it is made up."""

from collections.abc import Mapping

ABN = "51824753556"
NS_PARENT = "http://www.sbr.gov.au/ato/payevnt"
NS_CHILD = "http://www.sbr.gov.au/ato/payevntemp"
PARENT_FIELDS: Mapping[str, str] = {
    "Rp/SoftwareInformationBusinessManagementSystemId": "SYN-BMS-0001",
    "Rp/AustralianBusinessNumberId": ABN,
    "Rp/OrganisationDetailsOrganisationBranchC": "001",
    "Rp/OrganisationName/DetailsOrganisationalNameT": "Synthetic Bakery",
    "Rp/Payroll/PaymentRecordTransactionD": "2026-11-23",
    "Rp/Payroll/InteractionRecordCt": "2",
    "Rp/Payroll/MessageTimestampGenerationDt": "2026-11-23T03:00:00Z",
    "Rp/Payroll/InteractionTransactionId": "SYN-SUBMISSION-1",
    "Rp/Payroll/AmendmentI": "false",
    "Rp/Declaration/SignatureD": "2026-11-23",
}
CHILD_FIELDS: Mapping[str, str] = {
    "Payee/Identifiers/TaxFileNumberId": "111111111",
    "Payee/Identifiers/EmploymentPayrollNumberId": "SYN-1",
    "Payee/PersonNameDetails/FamilyNameT": "Synthetic",
}


def tree(root: str, namespace: str, fields: Mapping[str, str], prefix: str = "tns") -> str:
    """An XML document with these fields by path; those that share a beginning share elements."""
    mark = f"{prefix}:" if prefix else ""
    declared = f"xmlns:{prefix}" if prefix else "xmlns"

    def inside(rest: list[tuple[list[str], str]]) -> str:
        parts: list[str] = []
        while rest:
            name = rest[0][0][0]
            same = [(path[1:], value) for path, value in rest if path[0] == name]
            rest = [(path, value) for path, value in rest if path[0] != name]
            content = "".join(value for path, value in same if not path)
            parts.append(f"<{mark}{name}>{content}{inside([one for one in same if one[0]])}</{mark}{name}>")
        return "".join(parts)

    content = inside([(path.split("/"), value) for path, value in fields.items() if value])
    return f'<{mark}{root} {declared}="{namespace}">{content}</{mark}{root}>'


def delimiter(document_id: str, document_type: str, document_name: str, related: str = "") -> str:
    return (
        f'<Record_Delimiter DocumentID="{document_id}" DocumentType="{document_type}" DocumentName="{document_name}" '
        f'RelatedDocumentID="{related}"/>\n'
    )


def parent(changes: Mapping[str, str] | None = None, document_id: str = "1.1") -> str:
    fields = {**PARENT_FIELDS, **(changes or {})}
    return delimiter(document_id, "PARENT", "PAYEVNT") + tree("PAYEVNT", NS_PARENT, fields) + "\n"


def child(number: int, changes: Mapping[str, str] | None = None, related: str = "1.1") -> str:
    fields = {**CHILD_FIELDS, "Payee/Identifiers/EmploymentPayrollNumberId": f"SYN-{number}", **(changes or {})}
    document_id = f"{related.split('.', 1)[0]}.{number + 1}"
    return delimiter(document_id, "CHILD", "PAYEVNTEMP", related) + tree("PAYEVNTEMP", NS_CHILD, fields) + "\n"


def pay_event(changes: Mapping[str, str] | None = None, payees: int = 2) -> bytes:
    """One payer with its payees."""
    announced = {"Rp/Payroll/InteractionRecordCt": str(payees), **(changes or {})}
    return (parent(announced) + "".join(child(number) for number in range(1, payees + 1))).encode()
