"""`lodge` in the process of a test: its exit code, and what it said."""

from dataclasses import dataclass

import pytest

from pipeline.interfaces.cli import main


@dataclass(frozen=True, slots=True)
class Left:
    """How a command left."""

    code: int | str | None
    out: str
    err: str


class Lodge:
    """`lodge` in the folder, and with the environment, that the test is in."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Left:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        said = self._capsys.readouterr()
        return Left(left.value.code, said.out, said.err)
