"""Names of images, their sources, and the store: real archives, real skopeo and umoci."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import tempfile
from base64 import b64encode
from pathlib import Path
from subprocess import PIPE
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.process import ProcessReader, reapProcessHandlers
from twisted.trial.unittest import TestCase

from mesoskit.agent.containers import image_store
from mesoskit.agent.containers.image_layers import ZSTANDARD
from mesoskit.agent.containers.image_names import (
    ImageError,
    folder_source,
    parse_reference,
    registry_source,
)
from mesoskit.agent.containers.image_store import ImageStore, StoredImage
from mesoskit.agent.containers.image_tools import find_tool, missing_tools, run_tool
from mesoskit.agent.users import in_thread_of
from mesoskit.model.ids import ContainerId
from tests.agent.image_archives import docker_archive, layer, link, oci_layout
from tests.agent.real import until
from tests.agent.registries import Registry
from tests.base import SynchronousTestCase

TOOLS = [name for name in ("skopeo", "umoci") if shutil.which(name) is None]
ZSTD = shutil.which("zstd")
SKIP = f"not installed: {', '.join(TOOLS)}" if TOOLS else ""
if not SKIP and os.geteuid() != 0:
    SKIP = "root unpacks images"


def programs_run() -> bool:
    """Tell whether a program that was started runs, or has something to say yet."""
    waiting: Any = reactor
    readers = waiting.getReaders()
    return bool(reapProcessHandlers) or any(isinstance(each, ProcessReader) for each in readers)


class ReferenceTests(SynchronousTestCase):
    """What names mean."""

    def test_parts(self):
        for name, expected in (
            ("busybox", (None, "busybox", "latest", None)),
            ("team/app:1.0", (None, "team/app", "1.0", None)),
            ("localhost/app", ("localhost", "app", "latest", None)),
            ("r.example:5000/a/b:c", ("r.example:5000", "a/b", "c", None)),
            ("app@sha256:" + "a" * 64, (None, "app", None, "sha256:" + "a" * 64)),
        ):
            self.assertEqual(tuple(parse_reference(name)), expected)

    def test_what_is_no_name_is_refused(self):
        for name in (
            "",
            "../etc",
            "a/../b",
            "/abs",
            "Upper",
            "a:",
            "a:b/c",
            "a@sha256:1",
            "-a",
            "a\n",
        ):
            self.assertRaises(ImageError, parse_reference, name)

    def test_official_images_of_docker_hub(self):
        hub = "https://registry-1.docker.io"
        source = registry_source(hub, parse_reference("busybox:1.36"))
        self.assertEqual(source, ("docker://docker.io/library/busybox:1.36", False))
        source = registry_source("http://r.example:5000", parse_reference("a/b"))
        self.assertEqual(source, ("docker://r.example:5000/a/b:latest", True))
        source = registry_source(hub, parse_reference("localhost/a:b"))
        self.assertEqual(source, ("docker://localhost/a:b", False))

    def test_a_missing_image_says_what_is_wanted_where(self):
        folder = self.mktemp()
        os.mkdir(folder)
        error = self.assertRaises(ImageError, folder_source, folder, parse_reference("a:b"), "/x")
        self.assertIn("a:b.tar or a.tar", str(error))
        self.assertIn(folder, str(error))

    def test_a_file_that_is_no_image(self):
        folder = self.mktemp()
        os.mkdir(folder)
        Path(folder, "a.tar").write_bytes(b"rubbish")
        Path(folder, "b.tar").write_bytes(layer([("x", b"")]))
        for name, expected in (("a", "cannot be read"), ("b", "manifest.json")):
            error = self.assertRaises(
                ImageError, folder_source, folder, parse_reference(name), "/x"
            )
            self.assertIn(expected, str(error))


class StoreTests(TestCase):
    """A store over a folder."""

    timeout = 300
    skip = SKIP or None

    def setUp(self) -> Deferred[None]:  # type: ignore[override]
        self.directory = tempfile.mkdtemp(prefix="mesoskit-test-")
        self.addCleanup(shutil.rmtree, self.directory)
        self.folder = os.path.join(self.directory, "folder")
        os.mkdir(self.folder)
        self.store = self.new_store()
        return self.store.start()

    def new_store(self, **more: Any) -> ImageStore:
        return ImageStore(
            reactor,
            in_thread_of(reactor),
            os.path.join(self.directory, "store"),
            self.folder,
            **more,
        )

    def layers_of(self, image: StoredImage) -> list[Path]:
        return [Path(self.store.layers, name) for name in image.layers]

    def archive(self, name: str, *layers: bytes, **config: Any) -> None:
        docker_archive(os.path.join(self.folder, name), layers, config)

    async def refused(self, name: str) -> str:
        try:
            await self.store.get(name)
        except ImageError as error:
            return str(error)
        raise AssertionError(f"{name} was given")

    async def test_an_archive(self):
        self.archive("a:1.tar", layer([("etc/x", b"x")]), Cmd=["/x"])
        image = await self.store.get("a:1")
        self.assertEqual(image.config["Cmd"], ["/x"])
        (root,) = self.layers_of(image)
        self.assertEqual((root / "etc/x").read_bytes(), b"x")
        again = self.new_store()
        shutil.rmtree(self.folder)
        self.assertEqual(await again.get("a:1"), image)

    async def test_layouts(self):
        oci_layout(os.path.join(self.folder, "team/app"), [layer([("x", b"1")])], tag="1.0")
        oci_layout(os.path.join(self.folder, "app:2"), [layer([("x", b"2")])], tag="2")
        first = await self.store.get("team/app:1.0")
        second = await self.store.get("app:2")
        for image, expected in ((first, "1"), (second, "2")):
            (root,) = self.layers_of(image)
            self.assertEqual((root / "x").read_text(), expected)
        self.assertIn("'3'", await self.refused("team/app:3"))

    async def test_layers_are_shared(self):
        base = layer([("base", b"")])
        self.archive("a.tar", base, layer([("a", b"")]))
        self.archive("b.tar", base, layer([("b", b"")]))
        both = gatherResults([self.store.get("a"), self.store.get("b")])
        first, second = await both
        self.assertEqual(first.layers[0], second.layers[0])
        self.assertEqual(len(os.listdir(self.store.layers)), 3)

    async def test_what_a_layer_hides(self):
        lower = layer([("d/a", b""), ("d/b", b""), ("gone", b""), ("e/x", b"")])
        upper = layer([("d/.wh.a", b""), (".wh.gone", b""), ("e/.wh..wh..opq", b""), ("e/y", b"")])
        self.archive("a.tar", lower, upper)
        _, root = self.layers_of(await self.store.get("a"))
        for path in ("d/a", "gone"):
            found = os.lstat(root / path)
            self.assertTrue(stat.S_ISCHR(found.st_mode) and found.st_rdev == 0, path)
        self.assertEqual(os.getxattr(root / "e", "trusted.overlay.opaque"), b"y")
        self.assertEqual(sorted(os.listdir(root / "e")), ["y"])

    async def test_one_pull_for_all_who_want_an_image(self):
        self.archive("a.tar", layer([("x", b"")]))
        runs = []

        def run(reactor: Any, arguments: list[str], *more: Any) -> Deferred[bytes]:
            runs.append(os.path.basename(arguments[0]))
            return run_tool(reactor, arguments, *more)

        self.patch(
            __import__("mesoskit.agent.containers.image_store", fromlist=["x"]), "run_tool", run
        )
        first, second = await gatherResults([self.store.get("a"), self.store.get("a:latest")])
        self.assertEqual(first, second)
        self.assertEqual(runs, ["skopeo", "umoci"])

    def registry(self, user: str = "", password: str = "") -> Registry:
        """Return a registry, and have the store pull from it."""
        layout = os.path.join(self.directory, "registry")
        oci_layout(layout, [layer([("x", os.urandom(100_000))])])
        registry = Registry(layout, user, password)
        self.addCleanup(registry.close)
        self.store.registry = f"http://{registry.address}"
        return registry

    async def test_a_registry(self):
        registry = self.registry()
        image = await self.store.get("team/app:1.0")
        self.assertEqual(len(image.layers), 1)
        self.assertIn("/v2/team/app/manifests/1.0", registry.asked)

    async def test_a_registry_that_wants_to_know_who_asks(self):
        registry = self.registry("me", "word")
        self.assertIn("app:1", await self.refused("app:1"))
        auth = b64encode(b"me:word").decode()
        config = json.dumps({"auths": {registry.address: {"auth": auth}}})
        image = await self.store.get("app:1", credentials=config)
        self.assertEqual(image.name, "app:1")

    async def test_how_far_a_pull_is_and_that_nobody_waits_for_it(self):
        registry = self.registry()
        registry.slow = True
        told: list[str] = []
        work = self.store.get("app:1", progress=told.append)
        await until(lambda: told)
        self.assertIn("Pulling image app:1: ", told[0])
        work.cancel()
        await self.assertFailure(work, ImageError)
        await until(lambda: not os.listdir(os.path.join(self.store.directory, "pulls")))
        await until(lambda: not programs_run())
        registry.slow = False
        self.assertEqual((await self.store.get("app:1")).name, "app:1")

    async def test_a_registry_that_hangs(self):
        registry = self.registry()
        registry.slow = True
        self.store.stall = 0.5
        why = await self.refused("app:1")
        self.assertIn("nothing has come from the registry for 0.5 seconds", why)
        await until(lambda: not programs_run())
        self.assertEqual(os.listdir(os.path.join(self.store.directory, "pulls")), [])

    async def test_digests_say_which(self):
        path = os.path.join(self.folder, "app")
        oci_layout(path, [layer([("x", b"1")])], tag="1")
        digest = json.loads(Path(path, "index.json").read_text())["manifests"][0]["digest"]
        self.archive("old.tar", layer([("x", b"1")]))
        for name in (f"app@{digest}", f"app:1@{digest}"):
            self.assertEqual((await self.store.get(name)).digest, digest)
        other = "sha256:" + "0" * 64
        for name in (f"app:1@{other}", f"app@{other}"):
            self.assertIn("the OCI layout", await self.refused(name))
        self.assertIn("is an archive, which has no digest", await self.refused(f"old@{other}"))

    async def test_modes_are_kept(self):
        self.archive("a.tar", layer([("su", b"x"), ("tmp", None)], {"su": 0o4755, "tmp": 0o1777}))
        (root,) = self.layers_of(await self.store.get("a"))
        self.assertEqual(stat.S_IMODE((root / "su").stat().st_mode), 0o4755)
        self.assertEqual(stat.S_IMODE((root / "tmp").stat().st_mode), 0o1777)

    async def test_an_image_may_be_pulled_anew(self):
        self.archive("a.tar", layer([("x", b"1")]))
        first = await self.store.get("a")
        self.archive("a.tar", layer([("x", b"2")]))
        self.assertEqual(await self.store.get("a"), first)
        second = await self.store.get("a", cached=False)
        self.assertNotEqual(second, first)

    async def test_a_missing_image(self):
        self.assertIn("there is no image 'b:latest'", await self.refused("b"))

    async def test_a_layer_that_is_not_what_its_digest_says(self):
        path = os.path.join(self.folder, "a")
        (blob,) = oci_layout(path, [layer([("x", b"x" * 10000)])])
        data = bytearray(blob.read_bytes())
        data[len(data) // 2] ^= 1
        blob.write_bytes(data)
        why = await self.refused("a")
        self.assertIn("image 'a:latest'", why)
        self.assertEqual(os.listdir(self.store.layers), [])
        self.assertEqual(os.listdir(os.path.join(self.store.directory, "pulls")), [])

    async def test_a_layer_that_is_no_archive(self):
        oci_layout(os.path.join(self.folder, "a"), [b"rubbish" * 1000])
        self.assertIn("is damaged", await self.refused("a"))

    def zstandard(self, *layers: bytes) -> list[Path]:
        """Make an image C{a} of layers that are packed with zstd."""

        def pack(data: bytes) -> bytes:
            if ZSTD is None:
                return ZSTANDARD + data
            return subprocess.run([ZSTD, "-qc"], input=data, check=True, stdout=PIPE).stdout

        path = os.path.join(self.folder, "a")
        return oci_layout(path, layers, pack=pack, packed_as="zstd")

    async def test_layers_of_zstandard(self):
        self.zstandard(layer([("etc/x", b"x" * 100_000)]), layer([("etc/.wh.x", b""), ("y", b"")]))
        if ZSTD is None:
            self.assertIn("apt-get install zstd", await self.refused("a"))
            return
        lower, upper = self.layers_of(await self.store.get("a"))
        self.assertEqual((lower / "etc/x").stat().st_size, 100_000)
        self.assertTrue(stat.S_ISCHR(os.lstat(upper / "etc/x").st_mode))
        self.assertEqual(os.listdir(os.path.join(self.store.directory, "pulls")), [])

    async def test_a_damaged_layer_of_zstandard(self):
        (blob,) = self.zstandard(layer([("x", os.urandom(10_000))]))
        # What it is called by is right: only its content is not.
        blob.write_bytes(blob.read_bytes()[:-100])
        name = hashlib.sha256(blob.read_bytes()).hexdigest()
        self.rename(blob, name)
        expected = "cannot be decompressed" if ZSTD else "apt-get install zstd"
        self.assertIn(expected, await self.refused("a"))

    def rename(self, blob: Path, name: str) -> None:
        """Let the image C{a} be whole again, with another blob in the place of one."""
        size = blob.stat().st_size
        blob.rename(blob.with_name(name))
        index = Path(self.folder, "a", "index.json")
        about = json.loads(index.read_text())
        path = blob.with_name(about["manifests"][0]["digest"].partition(":")[2])
        manifest = json.loads(path.read_text())
        manifest["layers"][0].update(digest=f"sha256:{name}", size=size)
        data = json.dumps(manifest).encode()
        digest = hashlib.sha256(data).hexdigest()
        path.with_name(digest).write_bytes(data)
        about["manifests"][0].update(digest=f"sha256:{digest}", size=len(data))
        index.write_text(json.dumps(about))

    async def test_a_layer_that_is_larger_than_the_disk(self):
        self.patch(image_store, "room_for", lambda directory: 1 << 20)
        large = layer([("x", bytes(2 << 20))])
        if ZSTD is not None:
            self.zstandard(large)
        else:
            self.archive("a.tar", large)
        oci_layout(os.path.join(self.folder, "b"), [large])
        self.archive("c.tar", large)
        for name in "abc":
            why = await self.refused(name)
            self.assertIn("is larger than 1 MiB when it is unpacked", why)
        self.assertEqual(os.listdir(self.store.layers), [])
        self.assertEqual(os.listdir(os.path.join(self.store.directory, "pulls")), [])

    async def test_pulls_are_measured(self):
        self.archive("a.tar", layer([("x", b"")]))
        self.assertEqual(self.store.metrics(), {})
        await self.store.get("a")
        await self.store.get("a")
        name = "containerizer/mesos/provisioner/docker_store/image_pull_ms"
        self.assertEqual(self.store.metrics()[f"{name}/count"], 1)
        self.assertGreater(self.store.metrics()[name], 0)

    async def test_a_layer_that_leads_out_of_the_image(self):
        self.archive("a.tar", layer([("../../escaped", b"x")]))
        self.archive("b.tar", layer([link("x", "../../../etc/passwd", hard=True)]))
        for name in ("a", "b"):
            self.assertIn("leads out of the image", await self.refused(name))

    async def test_links_lead_no_writing_and_no_hiding_out(self):
        outside = os.path.join(self.directory, "outside")
        os.mkdir(outside)
        Path(outside, "kept").touch()
        self.archive("a.tar", layer([link("l", outside), ("l/written", b"x")]))
        self.archive("b.tar", layer([link("l", outside), ("l/.wh.kept", b"")]))
        await self.store.get("a")
        self.assertIn("cannot be hidden", await self.refused("b"))
        self.assertEqual(os.listdir(outside), ["kept"])

    async def test_nobody_waits_any_more(self):
        self.archive("a.tar", layer([("x", b"")]))
        work = self.store.get("a")
        work.cancel()
        await self.assertFailure(work, ImageError)
        self.assertEqual((await self.store.get("a")).name, "a:latest")
        await until(lambda: not os.listdir(os.path.join(self.store.directory, "pulls")))

    async def test_pruning_leaves_what_is_used_and_what_is_excluded(self):
        base = layer([("base", b"")])
        for name in ("used", "excluded", "other"):
            self.archive(f"{name}.tar", base, layer([(name, b"")]))
        await self.store.get("used", ContainerId("c"))
        await self.store.get("excluded")
        await self.store.get("other", ContainerId("d"))
        self.store.release(ContainerId("d"))
        self.assertEqual(await self.store.prune(["excluded"]), ["other:latest"])
        self.assertEqual(len(os.listdir(self.store.layers)), 3)
        names = {image.name for image in await self.store.images()}
        self.assertEqual(names, {"used:latest", "excluded:latest"})
        self.store.release(ContainerId("c"))
        await self.store.prune()
        self.assertEqual(os.listdir(self.store.layers), [])

    async def test_layers_of_containers_of_before_stay(self):
        self.archive("a.tar", layer([("x", b"")]))
        image = await self.store.get("a")
        self.store.pin_layers(ContainerId("c"), image.layers)
        self.assertEqual(await self.store.prune(), ["a:latest"])
        self.assertEqual(os.listdir(self.store.layers), list(image.layers))

    async def test_what_was_not_done_is_gone_after_a_start(self):
        Path(self.store.directory, "pulls", "7").mkdir()
        await self.new_store().start()
        self.assertEqual(os.listdir(os.path.join(self.store.directory, "pulls")), [])

    async def test_a_missing_tool_says_which_package_has_it(self):
        self.patch(
            __import__("mesoskit.agent.containers.image_tools", fromlist=["x"]), "PATH", "/nowhere"
        )
        self.archive("a.tar", layer([("x", b"")]))
        self.assertIn("apt-get install skopeo", await self.refused("a"))
        error = self.assertRaises(ImageError, find_tool, "runc", "crun")
        self.assertIn("runc or crun", str(error))
        missing = missing_tools("/nowhere/crun")
        self.assertEqual(len(missing), 3)
        self.assertIn("/nowhere/crun (--oci_runtime)", missing[2])
