"""Software ids (SSID): nine digits and a control digit, the digit sum modulo 10 (cloud software authorisation page)."""


def control_digit(first_nine: str) -> str:
    """The tenth digit for a string of nine digits."""
    return str(sum(int(digit) for digit in first_nine) % 10)


def software_id_fault(software_id: str) -> str | None:
    """The rule that `software_id` breaks, in plain words, or None when it breaks none."""
    if len(software_id) != 10 or not (software_id.isascii() and software_id.isdigit()):
        return "must be exactly 10 digits, leading zeroes included"
    expected = control_digit(software_id[:9])
    if software_id[9] != expected:
        return f"control digit must be {expected} (sum of the first nine digits, modulo 10), not {software_id[9]}"
    return None
