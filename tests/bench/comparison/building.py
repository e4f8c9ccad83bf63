"""Building what takes part, in release mode."""

import json
import subprocess
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent.parent


def _cargo(*argv, **options):
    return subprocess.run(["cargo", *argv], cwd=ROOT, check=True, text=True, **options)


def _target():
    metadata = json.loads(_cargo("metadata", "--no-deps", "--format-version=1", stdout=subprocess.PIPE).stdout)
    return Path(metadata["target_directory"])


def loadgen():
    """The load generator of the tunnels, with their backend."""
    target = _target() / "loadgen"
    _cargo("build", "--release", "--locked", "--quiet",
           "--manifest-path", BENCH / "loadgen" / "Cargo.toml", "--target-dir", target)
    return target / "release" / "loadgen"


def product(given=None):
    """The product, which is built unless it is given."""
    if not given:
        _cargo("build", "--release", "--locked", "--quiet")
        given = _target() / "release" / "proxy-wstunnel"
    return given.resolve()
