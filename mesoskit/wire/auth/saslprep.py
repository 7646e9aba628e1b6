"""SASLprep (RFC 4013), as far as it is needed: whether it would leave a text as it is.

SCRAM has both sides prepare names and secrets before they are used, so that one text typed in two
ways is the same. Here what would be changed is refused instead: nothing is guessed, and both
sides always mean the same bytes.
"""


def is_prepared(text: str) -> bool:
    """Tell whether SASLprep takes the text, and leaves it as it is."""
    if text.isascii():
        return bool(text) and text.isprintable()
    # Tables of Unicode 3.2; few need them.
    import stringprep
    import unicodedata

    mapped = "".join(
        " " if stringprep.in_table_c12(letter) else letter
        for letter in text
        if not stringprep.in_table_b1(letter)
    )
    if unicodedata.ucd_3_2_0.normalize("NFKC", mapped) != text:
        return False
    prohibited = (
        stringprep.in_table_a1,
        stringprep.in_table_c12,
        stringprep.in_table_c21_c22,
        stringprep.in_table_c3,
        stringprep.in_table_c4,
        stringprep.in_table_c5,
        stringprep.in_table_c6,
        stringprep.in_table_c7,
        stringprep.in_table_c8,
        stringprep.in_table_c9,
    )
    if any(table(letter) for letter in text for table in prohibited):
        return False
    if any(map(stringprep.in_table_d1, text)):
        # What is written from the right is so from end to end.
        return (
            not any(map(stringprep.in_table_d2, text))
            and stringprep.in_table_d1(text[0])
            and stringprep.in_table_d1(text[-1])
        )
    return True
