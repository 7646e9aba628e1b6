"""What is mounted made read-only, with all that is mounted within it.

A remount changes one mount alone, and takes from it what it does not name: where a directory is
bound in which something else is mounted, that would stay writable, and C{nosuid} be lost. So
mount_setattr(2) does it where the kernel has it (Linux 5.12), and else one remount each.

The standard library alone.
"""

import ctypes
import errno
import os
import re
import struct

_SYS_MOUNT_SETATTR = 442
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 1
_MS_RDONLY = 0x1
_MS_REMOUNT = 0x20
_MS_BIND = 0x1000
_OPTIONS = {
    b"nosuid": 0x2,
    b"nodev": 0x4,
    b"noexec": 0x8,
    b"noatime": 0x400,
    b"nodiratime": 0x800,
    b"relatime": 0x200000,
}
_OCTAL = re.compile(rb"\\([0-7]{3})")

_libc = ctypes.CDLL(None, use_errno=True)


def make_read_only(mounted: int) -> None:
    """
    Make a mount read-only, and those within it. Raises L{OSError}.

    @param mounted: a descriptor of its root.
    """
    # struct mount_attr: what is set, what is cleared, propagation, a user namespace.
    wanted = struct.pack("4Q", _MOUNT_ATTR_RDONLY, 0, 0, 0)
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        mounted,
        b"",
        ctypes.c_uint(_AT_EMPTY_PATH | _AT_RECURSIVE),
        wanted,
        ctypes.c_size_t(len(wanted)),
    )
    if result < 0:
        number = ctypes.get_errno()
        if number not in (errno.ENOSYS, errno.EPERM):
            raise OSError(number, os.strerror(number))
        remount_each(os.readlink(f"/proc/self/fd/{mounted}").encode())


def remount_each(top: bytes) -> None:
    """Remount what is mounted at a path and below it, for older kernels. Raises L{OSError}."""
    with open("/proc/self/mountinfo", "rb") as file:
        lines = file.read().splitlines()
    for line in lines:
        fields = line.split(b" ")
        path = _OCTAL.sub(lambda found: bytes([int(found[1], 8)]), fields[4])
        if path != top and not path.startswith(top.rstrip(b"/") + b"/"):
            continue
        flags = _MS_BIND | _MS_REMOUNT | _MS_RDONLY
        for option in fields[5].split(b","):
            flags |= _OPTIONS.get(option, 0)
        if _libc.mount(None, path, None, ctypes.c_ulong(flags), None) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
