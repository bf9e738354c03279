"""What another user of the machine can try, without a password: run as `nobody`, by path.

Reads what to attack as JSON from standard input, writes everything it got to standard output as
JSON, `{attempt: bytes in hexadecimal}`; an attempt that got nothing is left out. Standard library
only: the interpreter that `nobody` may start need not be the project's.
"""

import json
import os
import socket
import ssl
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

EVERYBODYS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - where things are left by mistake
WAIT_S = 3
TOOL_S = 8
ENOUGH = 1 << 20
PATHS = (
    *(
        "/",
        "/dir/assign",
        "/dir/status",
        "/dir/lookup?volumeId=1",
        "/vol/status",
        "/cluster/status",
    ),
    *("/1,01637037d6", "/ui/index.html", "/stats/memory", "/metrics", "/debug/pprof/heap"),
    *("/buckets/?limit=1000", "/buckets/synthorax/", "/status", "/admin", "/object-store/buckets"),
)
WEB = ("/me", "/datasets", "/generations", "/experiments", "/queue", "/people", "/uploads")
STARTUP = b"\x00\x03\x00\x00user\x00synthorax\x00database\x00synthorax\x00\x00"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
SPOKEN = {
    "redis": b"KEYS *\r\nGET canary\r\nCONFIG GET *\r\n",
    "postgres": (len(STARTUP) + 4).to_bytes(4, "big") + STARTUP,
    "gRPC": PREFACE,
}

got: dict[str, bytes] = {}


def note(attempt: str, answer: bytes) -> None:
    if answer:
        got[attempt] = answer


def read(connection: socket.socket) -> bytes:
    answer = b""
    with suppress(OSError):
        while len(answer) < ENOUGH and (part := connection.recv(65536)):
            answer += part
    return answer


def say(port: int, words: bytes, *, secure: bool = False) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), WAIT_S) as plain:
            if not secure:
                plain.sendall(words)
                return read(plain)
            trusting = ssl.create_default_context()
            trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
            with trusting.wrap_socket(plain) as connection:
                connection.sendall(words)
                return read(connection)
    except OSError:
        return b""


def ask_ports(ports: dict[str, int]) -> None:
    for name, port in ports.items():
        for path in WEB if name == "web" else PATHS:
            words = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            note(f"http {name} {path}", say(port, words))
            if path == PATHS[0] or path == WEB[0]:
                note(f"https {name} {path}", say(port, words, secure=True))
        for protocol, words in SPOKEN.items():
            note(f"{protocol} {name}", say(port, words))


def listing(folder: Path) -> bytes:
    return b" ".join(bytes(each) for each in folder.iterdir())


def run_tools(weed: str, ports: dict[str, int]) -> None:
    """The store's own tools; what they write and what they say."""
    for name, (arguments, lines) in tools(ports).items():
        folder = Path(f"copy-{name}")
        folder.mkdir()
        said = run(weed, arguments, lines, folder)
        note(f"weed {name} says", said)
        for file in folder.rglob("*"):
            if file.is_file():
                note(f"weed {name} copies {file.name}", file.read_bytes())


def tools(ports: dict[str, int]) -> dict[str, tuple[list[str], str]]:
    master = f"127.0.0.1:{ports['master.port']}.{ports['master.port.grpc']}"
    door = f"127.0.0.1:{ports['filer.port']}"
    filer = f"127.0.0.1:{ports['filer.port']}.{ports['filer.port.grpc']}"
    asked = "volume.list\nfs.ls /buckets\nfs.du /buckets\nfs.cat /buckets/synthorax/canary\n"
    return {
        "shell": (["shell", f"-master={master}", f"-filer={filer}"], asked),
        "backup": (["backup", f"-server={master}", "-dir=.", "-volumeId=1"], ""),
        "tail": (["filer.meta.tail", f"-filer={filer}", "-timeAgo=1h"], ""),
        "cat": (["filer.cat", f"http://{door}/buckets/synthorax/canary"], ""),
        "download": (["download", f"-server={master}", "-dir=.", "1,01637037d6"], ""),
    }


def run(weed: str, arguments: list[str], lines: str, folder: Path) -> bytes:
    """What a tool printed until its end, or until it has had time enough."""
    try:
        return subprocess.run(
            [weed, *arguments],
            cwd=folder,
            input=lines.encode(),
            capture_output=True,
            timeout=TOOL_S,
            check=False,
        ).stdout
    except subprocess.TimeoutExpired as late:
        return late.stdout or b""


def look_into_processes(pids: list[int]) -> None:
    for pid in pids:
        for name in ("environ", "cmdline", "maps", "io", "stack", "auxv"):
            with suppress(OSError):
                note(f"proc {name}", Path(f"/proc/{pid}/{name}").read_bytes())
        for name in ("fd", "map_files"):
            with suppress(OSError):
                note(f"proc {name}", listing(Path(f"/proc/{pid}/{name}")))
        for name in ("cwd", "root", "exe"):
            with suppress(OSError):
                note(f"proc {name}", bytes(Path(f"/proc/{pid}/{name}").readlink()))
        with suppress(OSError), Path(f"/proc/{pid}/mem").open("rb") as memory:
            note("proc mem", memory.read(1))


def look_into_files(files: list[str], folders: list[str], since: float) -> None:
    """Files known by name, folders, sockets, and whatever was lately left where all may look."""
    for file in files:
        with suppress(OSError):
            note(f"file {file}", Path(file).read_bytes())
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(file)
            note(f"socket {file}", b"connected")
        with suppress(OSError):
            os.close(os.open(file, os.O_WRONLY | os.O_APPEND))
            note(f"file {file}", b"may be written")
    for folder in folders:
        with suppress(OSError):
            note(f"folder {folder}", listing(Path(folder)))
        with suppress(OSError):
            (Path(folder) / "mine").touch()
            note(f"folder {folder}", b"may be written")
    for place in EVERYBODYS:
        for path, _, names in os.walk(place):
            for name in names:
                file = Path(path) / name
                with suppress(OSError):
                    if file.is_file() and file.stat().st_mtime > since:
                        with file.open("rb") as opened:
                            note(f"left {file}", opened.read(ENOUGH))


def main() -> None:
    told = json.load(sys.stdin)
    ask_ports(told["ports"])
    run_tools(told["weed"], told["ports"])
    look_into_processes(told["pids"])
    look_into_files(told["files"], told["folders"], told["since"])
    json.dump({name: answer.hex() for name, answer in got.items()}, sys.stdout)


if __name__ == "__main__":
    main()
