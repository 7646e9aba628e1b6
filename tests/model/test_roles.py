"""Names of roles."""

from mesoskit.model.roles import ancestors, is_strict_subrole, parse_roles, validate_role
from tests.base import SynchronousTestCase

WRONG = [
    ("", "Role names cannot be the empty string"),
    ("/a", "Role '/a' cannot start with a slash"),
    ("/", "Role '/' cannot start with a slash"),
    ("a/", "Role 'a/' cannot end with a slash"),
    ("a//b", "Role 'a//b' cannot contain two adjacent slashes"),
    (".", "Role '.' cannot include '.' as a component"),
    ("a/../b", "Role 'a/../b' cannot include '..' as a component"),
    ("a/*", "Role 'a/*' cannot include '*' as a component"),
    ("-a", "Role component '-a' is invalid because it starts with a dash"),
    ("a/-b", "Role component '-b' is invalid because it starts with a dash"),
]


class RoleTests(SynchronousTestCase):
    """Which names there can be, and how they nest."""

    def test_wrong_names_are_told_in_mesos_words(self):
        for name, text in WRONG:
            self.assertEqual(validate_role(name), text)
        for character in "\t\n\v\f\r \x7f":
            self.assertEqual(
                validate_role(f"x/a{character}b"),
                f"Role component 'a{character}b' is invalid"
                " because it contains backspace or whitespace",
            )

    def test_right_names_pass(self):
        for name in ("*", "a", "a/b/c", "a-b", "a.b", "...", "a*b", "ä", "a_b/c:d", "**"):
            self.assertIsNone(validate_role(name), name)

    def test_ancestors_come_nearest_first(self):
        self.assertEqual(ancestors("a/b/c"), ("a/b", "a"))
        self.assertEqual(ancestors("a"), ())

    def test_subroles_lie_under_their_parents(self):
        self.assertTrue(is_strict_subrole("a/b", "a"))
        self.assertTrue(is_strict_subrole("a/b/c", "a"))
        for child, parent in (("a", "a"), ("ab", "a"), ("a", "a/b"), ("b/a", "a"), ("a", "*")):
            self.assertFalse(is_strict_subrole(child, parent), (child, parent))

    def test_lists_of_roles(self):
        self.assertEqual(parse_roles("a,b/c,,*"), ("a", "b/c", "*"))
        self.assertEqual(parse_roles(""), ())
        error = self.assertRaises(ValueError, parse_roles, "a,b c")
        self.assertIn("Role component 'b c' is invalid", str(error))
