"""Where URIs lead: files of this machine, servers for HTTP and FTP, and what C{hadoop} reaches.

The standard library alone, as all of L{mesoskit.agent.fetch}. What each scheme means is as in
Mesos (C{src/launcher/fetcher.cpp}).
"""

import os
import stat
import time
from typing import IO, Any

from mesoskit.agent.fetch_files import CHUNK, FetchFailed, Transfer, write_all

WEB = ("http://", "https://")
FTP = "ftp://"
LOOK = 0.1
"""Seconds between two looks at what C{hadoop} has copied."""


def bring(uri: str, target: IO[bytes], transfer: Transfer, request: dict[str, Any]) -> None:
    """
    Write what a URI leads to into a file. Raises L{FetchFailed}, L{OSError}.

    @param request: of the program, for C{frameworks_home} and C{hadoop}.
    """
    local = local_path(uri, request["frameworks_home"])
    if local is not None:
        copy_local(local, target, transfer)
    elif uri.startswith(WEB):
        download(uri, target, transfer)
    elif uri.startswith(FTP):
        download_ftp(uri, target, transfer)
    elif request["hadoop"]:
        copy_by_hadoop(request["hadoop"], uri, target, transfer)
    else:
        scheme = uri.partition("://")[0]
        raise FetchFailed(
            f"unsupported scheme {scheme!r}: file, http, https and ftp are supported, others"
            " where there is a hadoop client (--hadoop_home)"
        )


def local_path(uri: str, home: str | None) -> str | None:
    """Return the path that a URI means on this machine; L{None} where it means another one."""
    if not uri.startswith("file://"):
        if "://" in uri:
            return None
        if uri.startswith("/"):
            return uri
        if home:
            return os.path.join(home, uri)
        raise FetchFailed("a relative path needs --frameworks_home to be set")
    path = uri.removeprefix("file://")
    if path.startswith("localhost/"):
        path = path.removeprefix("localhost")
    if not path.startswith("/"):
        raise FetchFailed("a file URI needs an absolute path")
    return path


def copy_local(path: str, target: IO[bytes], transfer: Transfer) -> None:
    """Copy a file of this machine."""
    # A FIFO would keep us waiting for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as source:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise FetchFailed(f"{path!r} is no regular file")
        transfer.expect(found.st_size)
        while data := source.read(CHUNK):
            transfer.took(len(data))
            write_all(target, data)


def download(uri: str, target: IO[bytes], transfer: Transfer) -> None:
    """Download by HTTP or HTTPS, through the proxies that the agent's environment names."""
    from urllib import error, request

    # No handler for other schemes: a redirection leads nowhere else.
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.UnknownHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPRedirectHandler,
        request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    opener.addheaders = [("User-Agent", "mesoskit-fetcher")]
    try:
        with opener.open(uri, timeout=transfer.stall) as response:
            if response.status != 200:
                raise FetchFailed(f"the server answered {response.status} {response.reason}")
            announced = response.headers.get("Content-Length") or ""
            transfer.expect(int(announced) if announced.isdecimal() else None)
            while data := response.read1(CHUNK):
                transfer.took(len(data))
                write_all(target, data)
            transfer.finish()
    except error.HTTPError as failure:
        raise FetchFailed(f"the server answered {failure.code} {failure.reason}") from failure
    except error.URLError as failure:
        raise FetchFailed(str(failure.reason)) from failure
    except TimeoutError as failure:
        raise FetchFailed(f"it stalled for {transfer.stall:g} seconds") from failure
    except (ValueError, OSError, FetchFailed):
        raise
    except Exception as failure:  # http.client has many
        raise FetchFailed(f"{type(failure).__name__}: {failure}") from failure


def download_ftp(uri: str, target: IO[bytes], transfer: Transfer) -> None:
    """
    Download by FTP, in binary and passive mode, as whom the URI names or as C{anonymous}.

    The path begins where that user's login leads (RFC 1738); the server may send us to no other
    machine for the data.
    """
    import ftplib
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(uri)
    path = unquote(parts.path.removeprefix("/")).removesuffix(";type=i")
    try:
        with ftplib.FTP(timeout=transfer.stall) as ftp:
            ftp.connect(parts.hostname or "", parts.port or ftplib.FTP_PORT)
            ftp.login(unquote(parts.username or ""), unquote(parts.password or ""))
            ftp.voidcmd("TYPE I")
            connection, size = ftp.ntransfercmd(f"RETR {path}")
            with connection:
                transfer.expect(size)
                while data := connection.recv(CHUNK):
                    transfer.took(len(data))
                    write_all(target, data)
            transfer.finish()
            ftp.voidresp()
    except ftplib.all_errors as failure:
        if isinstance(failure, TimeoutError):
            raise FetchFailed(f"it stalled for {transfer.stall:g} seconds") from failure
        if isinstance(failure, OSError):
            raise
        why = str(failure) or "it hung up"
        raise FetchFailed(f"the server answered {why}") from failure


def copy_by_hadoop(hadoop: str, uri: str, target: IO[bytes], transfer: Transfer) -> None:
    """
    Let C{hadoop fs -copyToLocal} copy it, as Mesos does with HDFS, S3 and what else it knows.

    It writes to a file of its own, below the directory that we are in, from which we take it.
    """
    import subprocess

    name = f".fetched-{os.getpid()}"
    log = os.open("stderr", os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        child = subprocess.Popen(
            [hadoop, "fs", "-copyToLocal", uri, os.path.abspath(name)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    except OSError as error:
        raise FetchFailed(f"cannot run {hadoop!r}: {error.strerror}") from error
    finally:
        os.close(log)
    try:
        grown = 0
        while child.poll() is None:
            time.sleep(LOOK)
            size = _size(name)
            transfer.took(max(0, size - grown))
            grown = max(grown, size)
        if child.returncode:
            why = f"exited with status {child.returncode}" if child.returncode > 0 else "was killed"
            raise FetchFailed(f"'{hadoop} fs -copyToLocal' {why}; the sandbox's stderr says more")
        transfer.took(max(0, _size(name) - grown))
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb", buffering=0) as source:
            while data := source.read(CHUNK):
                write_all(target, data)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        for left in (name, f"{name}._COPYING_", f".{name}.crc"):
            try:
                os.unlink(left)
            except OSError:
                pass


def _size(name: str) -> int:
    """Return how much of a file is there; it may still have another name."""
    for candidate in (name, f"{name}._COPYING_"):
        try:
            return os.lstat(candidate).st_size
        except OSError:
            pass
    return 0
