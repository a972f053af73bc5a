#!/usr/bin/env python3
"""Checks that `rust-version` in Cargo.toml is at least that of every dependency, and that the program compiles with this
toolchain where rustup has it: `check_rust_version.py`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def number(version):
    return tuple(int(part) for part in version.split("."))[:2]


def main():
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    ours = {package["rust_version"] for package in metadata["packages"] if package["id"] in metadata["workspace_members"]}
    if len(ours) != 1 or None in ours:
        sys.exit(f"the packages of the workspace have several values of `rust-version`: {ours}")
    ours = ours.pop()
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    packages = [package for package in metadata["packages"] if package["id"] in used and package["rust_version"]]
    newer = [package for package in packages if number(package["rust_version"]) > number(ours)]
    if newer:
        names = "".join(f"\n  {package['name']} {package['version']}: {package['rust_version']}" for package in newer)
        sys.exit(f"`rust-version` is {ours}, and these dependencies need a newer one:{names}")
    print(f"rust-version {ours}, that of {len(packages)} dependencies is not newer")
    compiles_with(ours)


def compiles_with(version):
    """Compiles the packages that need no libtorch, which is slow to bind, with the oldest toolchain."""
    rustup = shutil.which("rustup")
    listed = subprocess.run([rustup, "toolchain", "list"], capture_output=True, text=True).stdout if rustup else ""
    if not any(line.split("-")[0].startswith(version) for line in listed.splitlines()):
        print(f"Rust {version} is not installed here, so the program was not compiled with it (rustup toolchain install {version})")
        return
    command = ["cargo", f"+{version}", "check", "--locked", "--package", "orchestrate", "--target-dir", "target/oldest"]
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
