"""The proxies under comparison: how each is configured, started and stopped."""

import grp
import os
import pwd
import re
import resource
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path

from comparison import processes

TEMPLATES = Path(__file__).resolve().parent.parent / "peers"
CORES = len(os.sched_getaffinity(0))
# Open files of a process: as many as it may have, but no more than any workload needs. Some proxies take memory for each
# that they might open.
_HARD_LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
FILES = 100_000 if _HARD_LIMIT == resource.RLIM_INFINITY else min(_HARD_LIMIT, 100_000)
# Seconds that a proxy may take until it listens.
STARTING = 15
# Where distributions put httpd's modules.
HTTPD_MODULES = ["/usr/lib/apache2/modules", "/usr/lib64/httpd/modules", "/usr/lib/httpd/modules"]

HTTPD = "@HTTPD@ -DFOREGROUND -d @DIR@ -f {httpd.conf}"
NGINX = "nginx -p @DIR@ -c {nginx.conf}"
HAPROXY = "haproxy -db -f {haproxy.cfg}"
# name: command, variables of its template
PEERS = {
    "httpd-event": (HTTPD, {"MPM": "event"}),
    "httpd-worker": (HTTPD, {"MPM": "worker"}),
    "nginx-1": (NGINX, {"WORKERS": 1, "BUFFER": "4k"}),
    "nginx-auto": (NGINX, {"WORKERS": "auto", "BUFFER": "4k"}),
    "nginx-64k": (NGINX, {"WORKERS": "auto", "BUFFER": "64k"}),
    "haproxy": (HAPROXY, {"BUFSIZE": 16 * 1024}),
    "haproxy-64k": (HAPROXY, {"BUFSIZE": 64 * 1024}),
}
QUICK_PEERS = ["httpd-event", "nginx-auto", "nginx-64k", "haproxy"]
# What forwarding costs at the least: bytes are moved, and nothing else is done.
RELAY = "@LOADGEN@ relay --listen 127.0.0.1:@PORT@ --to 127.0.0.1:@BACKEND@ --threads @THREADS@"
RELAYS = {"relay-1": (RELAY, {"THREADS": 1}), "relay-2": (RELAY, {"THREADS": 2})}
PRODUCTS = {"worker": ("@PRODUCT@ -c 'User root' -f {worker.conf}", {}), "reactor": ("@PRODUCT@ -c 'User root' -f {reactor.conf}", {})}


# Where a proxy listens for each link, in the templates. Who names no port for a link does not take part there.
PORTS = {"plain": "PORT", "tls": "TLS_PORT", "wss": "WSS_PORT", "both": "BOTH_PORT"}


class NotStarted(Exception):
    """A proxy that does not listen, with what it says about it."""


class Subject:
    """A proxy between the load generator and the backend, or nothing at all: `direct`.

    `role` is direct, relay, peer, or product, which is what is held against the others.
    """

    def __init__(self, name, role, command=None, variables=None, port=None, files=2):
        self.name = name
        self.role = role
        self.command = command
        self.variables = variables or {}
        self.texts = {name: (TEMPLATES / name).read_text() for name in re.findall(r"\{([\w.-]+)\}", command or "")}
        # Where it listens, by link. Directly there is only one leg, which is in TLS or not; others take part in what their
        # templates have a port for.
        self.ports = {link: None for link, name in PORTS.items()
                      if not command or link == "plain" or any(f"@{name}@" in text for text in self.texts.values())}
        self.ports["plain"] = port
        # That one of its processes opens for a tunnel.
        self.files = files
        self.process = None

    def protocol(self, workload):
        """What a client speaks with it. Directly it speaks TLS with the backend, if anybody does."""
        links = ("tls", "both") if self.command else ("tls", "wss", "both")
        return "wss" if workload.link in links else "ws"

    def speaks(self, workload):
        """Whether it speaks TLS where that is asked for."""
        return workload.link in self.ports

    def takes(self, workload):
        """Whether it speaks as is asked for, and as many tunnels fit under the limit of open files."""
        return self.speaks(workload) and workload.conns * self.files + 200 <= FILES

    def prepare(self, directory, ports, values):
        """Takes ports, and renders the templates that the command names."""
        # A backend port for each, so that connections that one has closed are not in the way of another.
        self.backend, self.backend_tls = next(ports), next(ports)
        if not self.command:
            self.ports = {link: self.backend if link == "plain" else self.backend_tls for link in self.ports}
            return
        self.ports = {link: port or next(ports) for link, port in self.ports.items()}
        self.directory = directory / self.name
        self.directory.mkdir()
        # A peer that was started by root gives root up.
        self.directory.chmod(0o755)
        values = {**values, **self.variables, "DIR": self.directory,
                  "BACKEND": self.backend, "BACKEND_TLS": self.backend_tls,
                  **{PORTS[link]: port for link, port in self.ports.items()}}
        command = self.command
        for template, text in self.texts.items():
            rendered = self.directory / template
            rendered.write_text(fill(text, values))
            command = command.replace("{%s}" % template, shlex.quote(str(rendered)))
        self.argv = shlex.split(fill(command, values))

    def start(self, settle):
        """Starts it, and returns when it listens; `settle` seconds later, for who then starts helpers."""
        if self.has_died():
            self.stop()
        if not self.command or self.process:
            return
        with open(self.directory / "output.log", "ab") as log:
            self.process = processes.start(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + STARTING
        while not all(map(listens, self.ports.values())):
            if self.has_died() or time.monotonic() > deadline:
                self.stop()
                raise NotStarted(f"{self.name} did not start: {self.last_words() or 'it says nothing'}")
            time.sleep(0.01)
        time.sleep(settle)

    def stop(self):
        if self.process:
            processes.stop(self.process)
        self.process = None

    def has_died(self):
        return self.process is not None and self.process.poll() is not None

    def last_words(self):
        """The end of what it and its error log have said."""
        logs = [self.directory / name for name in ("output.log", "error.log")]
        return "".join(log.read_text(errors="replace") for log in logs if log.exists())[-1000:].strip()


def values(loadgen, product):
    """What templates and commands may name, beside what belongs to a subject."""
    # Whoever is root names somebody who is nobody; anybody else remains who he is.
    user = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    return {
        "LOADGEN": loadgen,
        "PRODUCT": product,
        "HTTPD": httpd() or "httpd",
        "MODULES": next(filter(os.path.isdir, HTTPD_MODULES), HTTPD_MODULES[0]),
        "USER": user.pw_name,
        "GROUP": grp.getgrgid(user.pw_gid).gr_name,
        "CORES": CORES,
        "FILES": FILES,
        # nginx drops clients once 15/16 of these are in use.
        "CONNECTIONS": FILES * 16 // 15 + 100,
        # A tunnel takes two files.
        "TUNNELS": min(50_000, (FILES - 200) // 2),
    }


def identity(directory):
    """A certificate for P-256 with its key, which the proxies and the backend show: the files, and both in one."""
    files = {name: directory / name.lower() for name in ("CERT", "KEY", "PEM")}
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-out", files["CERT"], "-keyout", files["KEY"]], check=True, capture_output=True, timeout=60)
    files["PEM"].write_text(files["CERT"].read_text() + files["KEY"].read_text())
    for file in files.values():
        # For peers that have given root up; it is worth nothing to anybody.
        file.chmod(0o644)
    return files


def fill(text, values):
    """Replaces each `@NAME@` that `values` knows."""
    return re.sub(r"@([A-Z_]+)@", lambda match: str(values.get(match[1], match[0])), text)


def free_ports():
    """Ports that nobody listens on, below those that the system gives to connections."""
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in range(8100, ephemeral):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port
    raise RuntimeError("no port is free")


def listens(port):
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def parse(text):
    """A subject from NAME=CMD@PORT; without @PORT one is chosen."""
    match = re.fullmatch(r"([\w.-]+)=(.+?)(?:@(\d+))?", text, re.DOTALL)
    if not match:
        raise ValueError(f"not NAME=CMD@PORT: {text}")
    name, command, port = match.groups()
    return Subject(name, "product", command, port=port and int(port))


def httpd():
    """httpd's name here."""
    return next(filter(shutil.which, ["apache2", "httpd"]), None)


def is_installed(command):
    program = command.split()[0]
    return bool(httpd() if program == "@HTTPD@" else shutil.which(program))


def versions():
    """The peers' versions, by program."""
    asked = {"httpd": [httpd(), "-v"], "nginx": ["nginx", "-v"], "haproxy": ["haproxy", "-v"]}
    found = {}
    for name, argv in asked.items():
        if argv[0] and shutil.which(argv[0]):
            done = subprocess.run(argv, capture_output=True, text=True, timeout=10)
            if match := re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr):
                found[name] = match[0]
    return found
