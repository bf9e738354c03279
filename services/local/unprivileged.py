"""Run a program that refuses to run as root, where we are root: its arguments are the command.

On Linux the program gets a user namespace in which it sees itself as nobody, while its files stay
ours and closed to everyone else. Where namespaces are denied (most containers) it really becomes
nobody, and keeps the one capability that lets it reach our closed folders. Opening those folders
to the world is never the way. Standard library only: it is run by path, before anything else.
"""

import ctypes
import os
import struct
import sys
from pathlib import Path

NOBODY = 65534
CLONE_NEWUSER = 0x10000000
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def enter_namespace() -> None:
    """Be nobody in a namespace of our own (uid and gid 65534 there are ours outside)."""
    user, group = os.geteuid(), os.getegid()
    _call("unshare", CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1")


def become_nobody() -> None:
    """Be nobody outright, able to pass our closed folders (user_namespaces are denied here)."""
    _call("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    bit = 1 << CAP_DAC_OVERRIDE
    sets = struct.pack("6I", bit, bit, bit, 0, 0, 0)  # effective, permitted, inheritable; low, high
    _call("capset", header, sets)
    _call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def _own(folder: Path, user: int) -> None:
    """Postgres wants its folder to be its own; the two ways above differ in who that is."""
    if not folder.exists() or folder.stat().st_uid == user:
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, -1, follow_symlinks=False)


def _can_enter_namespace() -> bool:
    if (child := os.fork()) == 0:
        try:
            enter_namespace()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main(arguments: list[str]) -> None:
    folder = Path(os.environ["PGDATA"])
    if _can_enter_namespace():
        _own(folder, os.geteuid())
        enter_namespace()
    else:
        _own(folder, NOBODY)
        become_nobody()
    os.execv(arguments[0], arguments)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
