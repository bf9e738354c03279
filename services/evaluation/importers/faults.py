"""What can be wrong with a file."""


class Faulty(ValueError):
    """A fact about a file, without any of its values: they may be a patient's."""

    def __init__(
        self,
        detail: str,
        *,
        column: str | None = None,
        line: int | None = None,
        accepted: list[str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.column = column
        self.line = line
        self.accepted = accepted
