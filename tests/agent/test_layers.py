"""Layers that cannot be laid upon each other, or on a file system that says nothing of itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from unittest import skipIf

from mesoskit.agent.containers.image_layers import MAX_BYTES, room_for
from mesoskit.agent.launcher_oci import Stage, StageError
from tests.base import SynchronousTestCase


class LayerTests(SynchronousTestCase):
    """What is said and done then."""

    @skipIf(os.geteuid() != 0, "only root can isolate")
    def test_a_file_system_that_bears_no_layers_is_named_with_what_to_change(self) -> None:
        self.addCleanup(os.chdir, os.getcwd())
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        (directory / "plan.json").write_text(json.dumps({"layers": "/proc"}))
        stage = Stage(str(directory))
        for writable, named in ((None, ""), (f"{directory}/w", f"that of {directory}/w (below --")):
            error = self.assertRaises(
                StageError, stage._lay, f"{directory}/root", ["sys", "bus"], writable
            )
            self.assertIn(
                "/root: Invalid argument: the file system of /proc (--docker_st", str(error)
            )
            self.assertIn(named, str(error))

    def test_where_nobody_says_how_much_room_there_is_a_layer_may_have_the_most(self) -> None:
        for blocks, free, room in (
            (10, 3, 3 << 12),
            (0, 0, MAX_BYTES),
            (1 << 60, 1 << 59, MAX_BYTES),
        ):
            figures = (4096, 4096, blocks, free, free, 0, 0, 0, 0, 255)
            self.patch(os, "statvfs", lambda path, figures=figures: os.statvfs_result(figures))
            self.assertEqual(room_for("/"), room)
