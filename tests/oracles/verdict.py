"""What an independent verifier says of a document."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Signed:
    """One signature that holds: its method, and the names and ids of the elements that it covers, in order."""

    method: str
    covers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`lines` are a verifier's findings, or its reasons to refuse."""

    valid: bool
    lines: tuple[str, ...]

    @property
    def signatures(self) -> list[Signed]:
        """The signatures in the order of the document."""
        assert self.valid, self.lines
        found: list[Signed] = []
        for line in self.lines:
            kind, _, rest = line.partition(" ")
            if kind == "signature":
                found.append(Signed(rest, ()))
            elif kind == "covers":
                name, _, own_id = rest.partition(" ")
                found[-1] = Signed(found[-1].method, (*found[-1].covers, (name, own_id)))
        return found

    @property
    def reason(self) -> str:
        assert not self.valid, self.lines
        return " / ".join(self.lines)

    def facts(self, kind: str) -> dict[str, str]:
        """The findings of one kind, by their first word."""
        assert self.valid, self.lines
        split = (line.split(" ", 2) for line in self.lines if line.startswith(f"{kind} "))
        return {key: "".join(rest) for _, key, *rest in split}
