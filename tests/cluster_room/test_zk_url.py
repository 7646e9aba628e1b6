"""C{zk://} URLs, as Mesos writes them."""

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.cluster.zk_url import URLError, ZooKeeperURL, hidden, is_zookeeper
from tests.base import SynchronousTestCase


class URLTests(SynchronousTestCase):
    """What is read, and what is refused with which words."""

    def test_what_is_read(self) -> None:
        for text, hosts, path, credential in (
            ("zk://h1:1/mesos", ("h1:1",), "/mesos", None),
            ("zk://h1:1,h2:2,h3/a/b", ("h1:1", "h2:2", "h3:2181"), "/a/b", None),
            (" zk://h1:1//a//b/ ", ("h1:1",), "/a/b", None),
            ("zk://[::1]:7/a", ("[::1]:7",), "/a", None),
            ("zk://bob:secret@h1:1/a", ("h1:1",), "/a", "bob:secret"),
            ("zk://bob:s:e@c/r@h1:1/a", ("h1:1",), "/a", "bob:s:e@c/r"),
        ):
            url = ZooKeeperURL.parse(text)
            self.assertEqual((url.hosts, url.path, url.credential), (hosts, path, credential))

    def test_what_is_refused(self) -> None:
        for text, why in (
            ("h1:1/mesos", "does not begin with zk://"),
            ("zk://h1:1", "path is missing"),
            ("zk://h1:1/", "path is missing"),
            ("zk:///mesos", "names no server"),
            ("zk://h1:x/mesos", "no host:port"),
            ("zk://h1:0/mesos", "no port from 1 to 65535"),
            ("zk://h1:70000/mesos", "no port from 1 to 65535"),
            ("zk://bob@h1:1/mesos", "user:password"),
            ("zk://:x@h1:1/mesos", "user:password"),
            ("zk://h1:1/a/../b", "no node can have"),
        ):
            with self.assertRaises(URLError) as caught:
                ZooKeeperURL.parse(text)
            self.assertIn(why, str(caught.exception))

    def test_password_is_shown_to_nobody(self) -> None:
        text = "zk://bob:hush@h1:1/a"
        url = ZooKeeperURL.parse(text)
        self.assertEqual(str(url), "zk://bob:***@h1:1/a")
        with self.assertRaises(URLError) as caught:
            ZooKeeperURL.parse("zk://bob:hush@/a")
        for shown in (repr(url), hidden(text), str(caught.exception)):
            self.assertNotIn("hush", shown)
            self.assertIn("bob" if "***" in shown else "h1", shown)

    def test_any_text_is_read_or_refused(self) -> None:
        @given(st.text(alphabet="zk:/@,.h1[]% \x00é"))
        def holds(text: str) -> None:
            try:
                url = ZooKeeperURL.parse("zk://" + text)
            except URLError:
                return
            self.assertEqual(ZooKeeperURL.parse(str(url)).path, url.path)

        holds()
        self.assertTrue(is_zookeeper("zk://x"))
        self.assertFalse(is_zookeeper("127.0.0.1:5050"))
