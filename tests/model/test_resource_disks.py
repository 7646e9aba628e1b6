"""Disks, volumes and what is shared: resources that do not simply add up."""

from mesoskit.model.disks import BLOCK, MOUNT, PATH, RAW, READ_ONLY, Disk, Source, Volume
from mesoskit.model.quantities import Quantities
from mesoskit.model.resource_key import DYNAMIC, STATIC, Reservation, ResourceKey
from mesoskit.model.resource_shrinking import shrunk_to
from mesoskit.model.resources import NotContained, Resources
from tests.base import SynchronousTestCase

ALICE = (Reservation(STATIC, "alice"),)


def disk(size, *, shared=False, reservations=ALICE, **fields):
    """Return one disk resource of some MB."""
    key = ResourceKey(
        "disk", disk=Disk(**fields) if fields else None, shared=shared, reservations=reservations
    )
    return Resources([(key, size * 1000)])


class VolumeTests(SynchronousTestCase):
    """Persistent volumes, which are whole."""

    def test_volumes_do_not_merge(self):
        both = disk(10, persistence_id="a") + disk(10, persistence_id="b")
        self.assertEqual(len(both), 2)
        twice = disk(10, persistence_id="a") + disk(20, persistence_id="a")
        self.assertEqual(len(twice), 2)
        self.assertEqual(twice.scalar("disk"), 30_000)
        self.assertEqual(twice.quantities()["disk"], 30_000)

    def test_volumes_are_contained_in_full_only(self):
        volume = disk(10, persistence_id="a")
        total = volume + disk(90)
        self.assertTrue(total.contains(volume))
        self.assertFalse(total.contains(disk(5, persistence_id="a")))
        self.assertFalse(total.contains(volume + volume))
        self.assertRaises(NotContained, lambda: total - disk(5, persistence_id="a"))
        self.assertEqual(total.minus(disk(5, persistence_id="a")), total)
        self.assertEqual(total - volume, disk(90))

    def test_how_a_volume_is_mounted_does_not_matter(self):
        made = disk(10, persistence_id="a", principal="ann", volume=Volume("data"))
        used = disk(10, persistence_id="a", volume=Volume("other", READ_ONLY))
        self.assertEqual(made, used)
        self.assertEqual(hash(made), hash(used))
        self.assertTrue(made.contains(used))
        self.assertFalse(made - used)

    def test_each_volume_keeps_how_it_is_mounted(self):
        made = disk(10, persistence_id="a", volume=Volume("data"))
        other = disk(10, persistence_id="a", volume=Volume("other"))
        self.assertEqual([str(key.disk) for key, _ in made + other], ["a:data", "a:other"])
        self.assertEqual([str(key.disk) for key, _ in made + other - other], ["a:data"])
        self.assertEqual([str(key.disk) for key, _ in (made + other).minus(made)], ["a:other"])

    def test_a_volume_can_be_mounted_otherwise(self):
        made = disk(10, persistence_id="a", volume=Volume("data"))
        moved = made.map_keys(
            lambda key: key.replace(disk=key.disk and key.disk._replace(volume=Volume("other")))
        )
        self.assertEqual([str(key.disk) for key, _ in moved], ["a:other"])
        self.assertIs(made.map_keys(lambda key: key), made)

    def test_volumes_turn_back_into_disk(self):
        plain = disk(10, persistence_id="a", volume=Volume("data")) + disk(5)
        self.assertEqual(plain.without_volumes(), disk(15))
        mount = Source(MOUNT, mount="/m")
        mounted = disk(10, persistence_id="a", source=mount)
        self.assertEqual(mounted.without_volumes(), disk(10, source=mount))

    def test_volumes_are_found(self):
        volume = disk(10, persistence_id="a")
        total = volume + disk(5) + Resources.of(cpus=1)
        self.assertEqual(total.persistent_volumes(), volume)
        self.assertEqual(total.filter(lambda key: key.persistent), volume)

    def test_reservation_of_a_volume_can_be_pushed_and_allocated(self):
        volume = disk(10, persistence_id="a", volume=Volume("data"))
        pushed = volume.push_reservation(Reservation(DYNAMIC, "alice/x")).allocated("alice/x")
        self.assertEqual(
            str(pushed),
            "disk(allocated: alice/x)(reservations: [(STATIC,alice),(DYNAMIC,alice/x)])[a:data]:10",
        )
        self.assertEqual(pushed.unallocated().pop_reservation(), volume)

    def test_volumes_are_shrunk_to_nothing_or_not_at_all(self):
        volume = disk(10, persistence_id="a")
        self.assertEqual(shrunk_to(volume + disk(9), Quantities.of(disk=7)), disk(7))
        self.assertEqual(shrunk_to(volume + disk(9), Quantities.of(disk=12)), volume + disk(2))


class SourceTests(SynchronousTestCase):
    """Where disks come from."""

    def test_what_adds_up_by_source(self):
        for source, merges in (
            (Source(PATH, path="/p"), True),
            (Source(MOUNT, mount="/m"), False),
            (Source(BLOCK), False),
            (Source(RAW), True),
            (Source(RAW, profile="fast"), True),
            (Source(RAW, id="r1"), False),
        ):
            one = disk(10, source=source)
            self.assertEqual(len(one + one), 1 if merges else 2, source)
            self.assertEqual((one + one) - one, one)
            self.assertEqual(one.contains(disk(5, source=source)), merges)

    def test_disks_of_different_sources_stay_apart(self):
        sources = [Source(PATH), Source(PATH, path="/p"), Source(PATH, path="/q"), None]
        total = Resources.sum(disk(10, source=s) if s else disk(10) for s in sources)
        self.assertEqual(len(total), 4)

    def test_texts_are_those_of_mesos(self):
        hdfs = Volume("/data", host_path="/hdfs")
        for fields, text in (
            ({}, "disk(reservations: [(STATIC,alice)]):1"),
            ({"persistence_id": "hadoop", "volume": Volume("/data")}, "[hadoop:/data]:1"),
            ({"persistence_id": "hadoop", "volume": hdfs}, "[hadoop:/hdfs:/data:rw]:1"),
            (
                {
                    "persistence_id": "hadoop",
                    "volume": hdfs,
                    "source": Source(MOUNT, mount="/mnt1"),
                },
                "[MOUNT:/mnt1,hadoop:/hdfs:/data:rw]:1",
            ),
            ({"source": Source(PATH, path="/mnt2")}, "[PATH:/mnt2]:1"),
            ({"source": Source(PATH)}, "[PATH]:1"),
            ({"source": Source(RAW, id="i", profile="p", vendor="v")}, "[RAW(v,i,p)]:1"),
            ({"source": Source(BLOCK, profile="p")}, "[BLOCK(,,p)]:1"),
        ):
            self.assertTrue(str(disk(1, **fields)).endswith(text), str(disk(1, **fields)))


class SharedTests(SynchronousTestCase):
    """Shared volumes, which are counted."""

    volume = disk(64, persistence_id="id1", volume=Volume("path1"), shared=True)

    def test_copies_are_counted(self):
        ((key, value),) = self.volume
        twice = self.volume + self.volume
        self.assertEqual(len(twice), 1)
        self.assertEqual(twice.copies(key, value), 2)
        self.assertEqual((twice - self.volume).copies(key, value), 1)
        self.assertEqual(twice - twice, Resources.EMPTY)
        self.assertEqual(Resources.EMPTY.copies(key, value), 0)

    def test_copies_take_room_once(self):
        twice = self.volume + self.volume
        self.assertEqual(twice.scalar("disk"), 64_000)
        self.assertEqual(twice.quantities(), self.volume.quantities())
        self.assertEqual(len(twice.to_message()), 1)
        self.assertEqual(twice.as_json()["disk"], 64.0)

    def test_contains_looks_at_copies(self):
        twice = self.volume + self.volume
        self.assertTrue(twice.contains(self.volume))
        self.assertTrue(twice.contains(twice))
        self.assertFalse(self.volume.contains(twice))
        self.assertRaises(NotContained, lambda: self.volume - twice)
        self.assertEqual(self.volume.minus(twice), Resources.EMPTY)
        self.assertNotEqual(self.volume, twice)

    def test_other_volumes_do_not_count(self):
        other = disk(32, persistence_id="id1", shared=True)
        exclusive = disk(64, persistence_id="id1")
        for different in (other, exclusive):
            self.assertFalse(self.volume.contains(different))
            self.assertEqual(len(self.volume + different), 2)
            self.assertEqual((self.volume + different) - self.volume, different)
            self.assertEqual(self.volume.minus(different), self.volume)

    def test_texts_are_those_of_mesos(self):
        text = "disk(reservations: [(STATIC,alice)])[id1:path1]<SHARED>:64"
        self.assertEqual(str(self.volume), text + "<1>")
        self.assertEqual(str(self.volume + self.volume), text + "<2>")

    def test_shared_and_other_resources_are_told_apart(self):
        total = self.volume + disk(5)
        self.assertEqual(total.shared(), self.volume)
        self.assertEqual(total.non_shared(), disk(5))

    def test_a_shared_volume_turns_back_into_one_disk(self):
        twice = self.volume + self.volume
        self.assertEqual(twice.without_volumes(), disk(64))
        self.assertEqual(twice.allocated("x").unallocated(), twice)
