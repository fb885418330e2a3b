"""What the scripts beside it share: the project's programs, requests to them, private PostgreSQL and NATS servers."""

import asyncio
import atexit
import contextlib
import email
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
PATH, SECRET = "/webhooks/unsubscribe", secrets.token_hex()
START = 40  # seconds that a program may take until it is ready


def build(*options):
    subprocess.run(["cargo", "build", "--locked", "--quiet", *options], cwd=ROOT, check=True)


def tool(name):
    """The path of a program, which is installed first if it is missing."""
    command = [ROOT / "scripts/tool", name]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Program(subprocess.Popen):
    """A program of the project, which prints a line when it is ready: with its port at the end, if it is a server."""

    def __init__(self, path, **options):
        super().__init__([path], stdout=subprocess.PIPE, text=True, **options)
        atexit.register(self.kill)
        limit = threading.Timer(START, self.kill)
        limit.start()
        line = self.stdout.readline()
        limit.cancel()
        if not line:
            raise RuntimeError(f"{path} does not start")
        self.port = int(re.search(r"(\d*)$", line)[1] or 0)


def request(body, *lines, tokens=(SECRET,), kind="application/json", line=f"POST {PATH} HTTP/1.1"):
    body = body if isinstance(body, bytes) else body.encode()
    head = [line, "Host: 127.0.0.1", f"Content-Type: {kind}", *(f"X-LOX24-Token: {it}" for it in tokens),
            *(lines or [f"Content-Length: {len(body)}"]), "", ""]
    return "\r\n".join(head).encode("latin-1") + body


async def read_response(reader):
    """The status, the headers, and the outcome: the contract's code, and the pointer of the field at fault, if any.
    None if the response is not the contract's."""
    line, _, head = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
    status, headers = int(line.split()[1]), email.message_from_bytes(head)
    body, outcome = await reader.readexactly(int(headers.get("content-length", 0))), None
    if status == 200 and body.strip() == b"Webhook received":
        outcome = "received"
    elif headers.get("content-type") == "application/problem+json":
        problem = json.loads(body)
        if problem["status"] == status and (status == 401) == ("www-authenticate" in headers):
            outcome = " ".join([problem["code"], *filter(None, [problem.get("pointer")])])
    return status, headers, outcome


async def deliver(port, **options):
    """Sends events as the provider does, each attempt on a connection of its own; what became of each event."""
    with tempfile.NamedTemporaryFile() as report:
        command = [TARGET / "debug/examples/deliver", f"http://127.0.0.1:{port}{PATH}", f"--token={SECRET}"]
        command += [f"--report={report.name}", "--reconnect", *(f"--{name}={value}" for name, value in options.items())]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
        try:
            if await process.wait() not in (0, 1):
                raise RuntimeError("deliver failed")
        finally:
            if process.returncode is None:
                process.kill()
        return [json.loads(line) for line in report]


class Postgres:
    def __init__(self, folder):
        self.programs = pathlib.Path(tool("initdb")).resolve().parent
        self.data, port, password = folder / "postgres", free_port(), folder / "password"
        password.write_text(secrets.token_hex())
        self.url = f"postgres://webhook:{password.read_text()}@127.0.0.1:{port}/postgres"
        self.options = f"-h 127.0.0.1 -p {port} -k '' -N 200"
        self.user = {}
        if os.getuid() == 0:  # PostgreSQL refuses to run as root.
            self.user = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(folder, "postgres")
        self.run("initdb", "--username=webhook", f"--pwfile={password}", "--auth=scram-sha-256",
                 "--encoding=UTF8", "--locale=C").check_returncode()

    def run(self, program, *options):
        command = [self.programs / program, f"--pgdata={self.data}", *options]
        return subprocess.run(command, stdout=subprocess.DEVNULL, cwd="/", **self.user)

    def start(self):
        log = self.data / "server.log"
        if self.run("pg_ctl", "start", "--wait", f"--log={log}", f"--options={self.options}").returncode:
            raise RuntimeError(log.read_text())

    def crash(self):
        self.run("pg_ctl", "stop", "--wait", "--mode=immediate")

    def sql(self, query):
        command = [self.programs / "psql", "-qAtX", "--set=ON_ERROR_STOP=1", self.url, "--command", query]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


class Nats:
    def __init__(self, folder):
        self.port, password = free_port(), secrets.token_hex()
        self.url = f"nats://webhook:{password}@127.0.0.1:{self.port}"
        self.log, configuration = folder / "nats.log", folder / "nats.conf"
        self.command = [tool("nats-server"), "--config", configuration, "--log", self.log]
        configuration.write_text(f"""
            listen: "127.0.0.1:{self.port}"
            max_payload: 8MB
            authorization {{ user: webhook, password: "{password}" }}
            jetstream {{ store_dir: "{folder}/nats" }}
        """)

    def start(self):
        self.process = subprocess.Popen(self.command, stderr=subprocess.DEVNULL)
        limit = time.monotonic() + START
        # It listens only once JetStream has recovered.
        while socket.socket().connect_ex(("127.0.0.1", self.port)) != 0:
            if self.process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(self.log.read_text())
            time.sleep(0.05)

    def crash(self):
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def services():
    """Both servers, on free ports of the loopback, in a folder of their own, each with a password of its own."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="services.") as folder, contextlib.ExitStack() as stack:
        postgres, nats = Postgres(pathlib.Path(folder)), Nats(pathlib.Path(folder))
        for server in [postgres, nats]:
            stack.callback(server.crash)
            server.start()
        settings = {"DATABASE_URL": postgres.url, "NATS_URL": nats.url}
        yield types.SimpleNamespace(postgres=postgres, nats=nats, settings=settings)
