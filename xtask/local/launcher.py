"""Runs a local AWS: ministack, patched where it differs from AWS, on loopback.

    launcher.py --state-dir DIR [--port N] [--persist] [--no-self-check]

It speaks JSON lines on its standard output, and stops when its standard input ends:
nothing outlives the process that started it, unless that said "detach" first. With
BELLWIRE_LOCAL_CALLS set to a file, every call's principal, action, resource and
decision is appended to it.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import fcntl
import importlib.metadata
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any

MINISTACK_VERSION = "1.5.33"
REGION = "us-east-1"
HOST = "127.0.0.1"

# In-flight requests and Lambda workers get this long to end by themselves.
GRACE_S = 0.5
# A stop that takes longer than this is forced; the state is then the last one saved.
STOP_LIMIT_S = 8.0


class StartError(Exception):
    """Why the local AWS cannot start: a code for programs, and a sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Progress:
    """JSON lines to whoever started the launcher, as long as it listens."""

    def __init__(self) -> None:
        # Whatever else is printed belongs in the log, which is standard error.
        self._stream = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def send(self, event: str, **fields: Any) -> None:
        with self._lock:
            try:
                self._stream.write(json.dumps({"event": event, **fields}) + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                pass


class Stop:
    """The request to stop: by a signal, or by the end of standard input."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._requested = threading.Event()

    def request(self, *_: Any) -> None:
        if self._requested.is_set():
            return
        self._requested.set()
        threading.Thread(target=_force_stop, daemon=True).start()
        threading.Thread(target=self._stop, daemon=True).start()

    def _stop(self) -> None:
        _end_workers()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._requested.is_set():
            return
        await self._event.wait()

    def when_input_ends(self) -> None:
        for line in sys.stdin:
            if line.strip() == "detach":
                return
        self.request()


def _end_workers() -> None:
    """Busy Lambda workers too: stock ministack leaves them running."""
    runtime = sys.modules.get("ministack.core.lambda_runtime")
    if runtime is not None:
        runtime._REAP_GRACE = GRACE_S
        runtime.reset()


def _force_stop() -> None:
    time.sleep(STOP_LIMIT_S)
    print(f"not stopped after {STOP_LIMIT_S} s: forced", file=sys.stderr, flush=True)
    _end_process_group()


def _end_process_group() -> None:
    """This process and all that it started, at once."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


def main() -> None:
    options = _parse_options()
    progress = Progress()
    try:
        if os.getpgid(0) != os.getpid():
            os.setpgid(0, 0)
        _run(options, progress)
    except StartError as error:
        progress.send("error", code=error.code, message=str(error))
    except BaseException as error:  # noqa: BLE001
        traceback.print_exc()
        progress.send("error", code="failed", message=repr(error))
    sys.stderr.flush()
    _end_process_group()


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Runs a local AWS on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--state-dir", required=True)
    parser.add_argument("--persist", action="store_true", help="keep state at stop")
    parser.add_argument("--no-self-check", action="store_true")
    return parser.parse_args()


def _run(options: argparse.Namespace, progress: Progress) -> None:
    stop = Stop()
    signal.signal(signal.SIGTERM, stop.request)
    signal.signal(signal.SIGINT, stop.request)
    # A closed terminal ends what is not detached by the end of standard input.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=stop.when_input_ends, daemon=True).start()
    _check_version()
    running = _lock_state_dir(options.state_dir)
    listener = _listen(options.port)
    port = listener.getsockname()[1]
    os.write(running, json.dumps({"pid": os.getpid(), "port": port}).encode())
    calls_path = os.environ.pop("BELLWIRE_LOCAL_CALLS", "")
    own_variables = _configure(port, options.state_dir, options.persist)
    progress.send("listening", port=port, pid=os.getpid())

    import patches
    from authorisation import CallLog
    from bench import ACCOUNT

    log = CallLog(calls_path, ACCOUNT)
    try:
        patches.apply(log, own_variables)
    except patches.PatchError as error:
        raise StartError("patch", str(error)) from error
    check = threading.Thread(
        target=_report_ready, args=(port, options, log, progress), daemon=True
    )
    check.start()
    asyncio.run(_serve(listener, stop))
    progress.send("stopped")


def _check_version() -> None:
    version = importlib.metadata.version("ministack")
    if version != MINISTACK_VERSION:
        raise StartError(
            "version",
            f"the patches are for ministack {MINISTACK_VERSION}, not {version}",
        )


def _lock_state_dir(state_dir: str) -> int:
    """Held until this process ends, however it ends; says where the server is."""
    os.makedirs(state_dir, exist_ok=True)
    path = os.path.join(state_dir, "running.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise StartError(
            "state_in_use", f"a local AWS already runs on {state_dir}"
        ) from error
    os.ftruncate(descriptor, 0)
    return descriptor


def _listen(port: int) -> socket.socket:
    """Listens before anything is configured with the port: no race for a free one."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        code = "port_taken" if error.errno == errno.EADDRINUSE else "port_refused"
        raise StartError(code, f"{HOST}:{port}: {error.strerror}") from error
    listener.listen(1024)
    return listener


def _configure(port: int, state_dir: str, persist: bool) -> list[str]:
    """Sets the environment of ministack; returns the variables that are its own."""
    folders = {name: os.path.join(state_dir, name) for name in _FOLDERS}
    for folder in folders.values():
        os.makedirs(folder, exist_ok=True)
    flag = "1" if persist else "0"
    own = {
        "AUTH": "true",
        "BIND_HOST": HOST,
        # No Docker: nothing is where it looks for one.
        "DOCKER_HOST": f"unix://{folders['tmp']}/no-docker.sock",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "LAMBDA_EXECUTOR": "local",
        "LOG_LEVEL": "WARNING",
        "MINISTACK_HOST": HOST,
        "MINISTACK_REGION": REGION,
        "PERSIST_STATE": flag,
        "S3_DATA_DIR": folders["s3"],
        "S3_PERSIST": flag,
        "SFTP_ENABLED": "0",
        "STATE_DIR": folders["state"],
    }
    os.environ.update(own)
    os.environ.update(
        {
            # Without it a Lambda's SDK would call the real AWS.
            "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "HOME": folders["home"],
            "TMPDIR": folders["tmp"],
        }
    )
    return list(own)


_FOLDERS = ("home", "tmp", "state", "s3")


async def _serve(listener: socket.socket, stop: Stop) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app

    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = GRACE_S
    config.loglevel = "WARNING"
    await serve(app, config, shutdown_trigger=stop.wait)


def _report_ready(
    port: int, options: argparse.Namespace, log: Any, progress: Progress
) -> None:
    """Waits until the server answers, then checks each patched behaviour on it."""
    import selfcheck
    from bench import Bench, Client

    try:
        # The socket already listens: this waits for the first answer.
        Client(port).request("GET", "/_ministack/health")
    except Exception as error:  # noqa: BLE001
        progress.send("error", code="failed", message=f"health: {error!r}")
        return
    progress.send("healthy")
    if options.no_self_check:
        progress.send("ready", passed=0, total=0)
        return
    bench = Bench(port)
    results = selfcheck.run(
        bench, log, lambda result: progress.send("check", **result._asdict())
    )
    passed = sum(1 for result in results if result.passed)
    progress.send("ready", passed=passed, total=len(results))
    # In an account of its own, so nobody waits for it.
    bench.remove()
    log.own.clear()


if __name__ == "__main__":
    logging.captureWarnings(True)
    main()
