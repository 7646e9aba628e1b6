"""Regular expressions that frameworks send: RE2, which never takes more than linear time."""

from typing import TYPE_CHECKING

from mesoskit.flags import Flag, integer, size

if TYPE_CHECKING:
    from mesoskit.allocator.constraints import Matcher
    from mesoskit.master.offer_constraints import Compile

MAX_MEM = 4096
"""Bytes; Mesos' default of C{--offer_constraints_re2_max_mem}."""

MAX_PROGRAM_SIZE = 100
"""Instructions; Mesos' default of C{--offer_constraints_re2_max_program_size}."""

FLAGS = (
    Flag(
        "offer_constraints_re2_max_mem",
        size,
        MAX_MEM,
        "How much memory a regular expression of a framework's offer constraints may take;"
        " one that needs more is refused.",
        written="4KB",
    ),
    Flag(
        "offer_constraints_re2_max_program_size",
        integer,
        MAX_PROGRAM_SIZE,
        "How many instructions RE2 may make of such a regular expression, likewise.",
    ),
)
"""The master's."""


def compiler(max_mem: int = MAX_MEM, max_program_size: int = MAX_PROGRAM_SIZE) -> "Compile":
    """
    Return what makes matchers by the package C{google-re2}, which C{mesoskit[re2]} installs.

    Where it is missing every regular expression is refused, with words that say so. The other
    errors are Mesos'.

    @param max_mem: bytes.
    @param max_program_size: instructions.
    """
    from mesoskit.master.offer_constraints import InvalidConstraints, no_patterns

    def compile_regex(regex: str) -> "Matcher":
        try:
            import re2
        except ImportError:
            return no_patterns(regex)
        options = re2.Options()
        options.max_mem = max_mem
        options.log_errors = False
        try:
            compiled = re2.compile(regex, options)
        except re2.error as error:
            (why,) = error.args
            shown = why.decode(errors="replace") if isinstance(why, bytes) else why
            raise InvalidConstraints(
                f"Failed to construct regex from pattern '{regex}': {shown}"
            ) from None
        if compiled.programsize > max_program_size:
            raise InvalidConstraints(
                f"Regex '{regex}' is too complex: program size of {compiled.programsize} is"
                f" larger than maximum of {max_program_size} allowed"
            )
        return lambda text: compiled.fullmatch(text) is not None

    return compile_regex
