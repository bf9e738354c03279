"""The words that programs write for a value that is missing."""

MISSING = frozenset(
    {
        "",
        # pandas, NumPy and R
        *("na", "n/a", "n.a.", "<na>", "#na", "nan", "-nan", "none", "null", "nat"),
        *("na_character_", "na_integer_", "na_real_"),
        *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
        # spreadsheets
        *("#n/a", "#n/a n/a", "#null!", "#value!", "#ref!", "#div/0!", "#name?", "#num!"),
        # databases, statistics packages and people
        *(r"\n", "(null)", "nil", "undefined", "missing", ".", "unknown"),
        *("not available", "not applicable", "not known", "not stated", "unspecified"),
    }
)


def is_missing(text: str) -> bool:
    """Whether a cell says nothing, in whatever words and case."""
    return text.strip().casefold() in MISSING
