#!/usr/bin/env python3
"""Fetches libtorch into `.libtorch/`: setup_libtorch.py [cpu|cuda]

The PyPI wheel of torch holds the headers and the libraries. Without an argument whatever variant is there is kept, and
the CPU one is fetched when there is none. An exported LIBTORCH is honoured: then it is only checked.

    .libtorch/build-version   the version, as in the official archives
    .libtorch/variant         "2.11.0 cpu" or "2.11.0 cuda", written last: the layout is complete
    .libtorch/include/        torch/include of the wheel
    .libtorch/lib/            the libraries, those of CUDA among them where the CPU build needs them to load
"""

import os
import shutil
import zipfile
from pathlib import Path

import wheels
from wheels import ROOT, TORCH

CPU_LIBRARIES = ("libc10.so", "libgomp.so.1", "libtorch.so", "libtorch_cpu.so")
# Of CUDA, what the wheel's libtorch_cpu.so needs to load at all.
LOADED_BY_CPU = ("libcudart.so.13", "libcupti.so.13")
CUDA_LIBRARIES = (
    "libc10_cuda.so",
    "libcaffe2_nvrtc.so",
    "libtorch_cuda.so",
    "libtorch_cuda_linalg.so",
    "libtorch_nvshmem.so",
)
# While unpacking, the wheel and what came out of it are both on the disk.
NEEDED_BYTES = {"cpu": 1_700_000_000, "cuda": 8_000_000_000}


def check_own(libtorch):
    """Says what is wrong with the user's own LIBTORCH, if anything."""
    if not (libtorch / "lib").is_dir():
        wheels.fail(f"LIBTORCH is `{libtorch}`, which has no `lib` (unset it, and set-up fetches libtorch itself)")
    version_file = libtorch / "build-version"
    version = version_file.read_text(encoding="utf-8").strip() if version_file.exists() else "of unknown version"
    if version.split("+")[0] != TORCH.version:
        wheels.say(f"warning: LIBTORCH `{libtorch}` is {version}; the engine is built for {TORCH.version}")


def unpack(wheel_path, wanted, target):
    """Copies the members of a wheel for which `wanted` gives a path to that path below `target`."""
    with zipfile.ZipFile(wheel_path) as wheel:
        for member in wheel.infolist():
            relative = wanted(member.filename)
            if relative is None or member.is_dir():
                continue
            path = target / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            with wheel.open(member) as source, open(path, "wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
    wheel_path.unlink()


def torch_member(libraries):
    """Returns where a member of the torch wheel goes: the headers, and the named libraries."""

    def place(name):
        if name.startswith("torch/include/"):
            return name[len("torch/") :]
        folder, _, file = name.rpartition("/")
        return f"lib/{file}" if folder == "torch/lib" and file in libraries else None

    return place


def nvidia_member(libraries):
    """Returns where a member of an nvidia wheel goes: the named libraries, or without names all of them."""

    def place(name):
        folder, _, file = name.rpartition("/")
        wanted = file in libraries if libraries else ".so" in file
        return f"lib/{file}" if folder.endswith("/lib") and wanted else None

    return place


def fetch(variant, target):
    """Downloads and lays out one variant, so that `target` appears whole or not at all."""
    wheels.require_linux_x86_64()
    wheels.say(f"fetching libtorch {TORCH.version} ({variant}) into {target.name}/")
    cuda = variant == "cuda"
    libraries = CPU_LIBRARIES + (CUDA_LIBRARIES if cuda else ())
    with wheels.replacing(target, NEEDED_BYTES[variant]) as part:
        downloads = part / "wheels"
        unpack(wheels.download(TORCH, downloads), torch_member(libraries), part)
        for wheel in (wheels.CUDA_RUNTIME, wheels.CUDA_CUPTI) + (wheels.CUDA_LIBRARIES if cuda else ()):
            unpack(wheels.download(wheel, downloads), nvidia_member(None if cuda else LOADED_BY_CPU), part)
        shutil.rmtree(downloads)
        missing = [name for name in (*libraries, *LOADED_BY_CPU) if not (part / "lib" / name).exists()]
        if missing:
            wheels.fail(f"the wheels lack {', '.join(missing)}")
        (part / "build-version").write_text(f"{TORCH.version}\n", encoding="utf-8")
        (part / "variant").write_text(f"{TORCH.version} {variant}\n", encoding="utf-8")
    wheels.say(f"libtorch {TORCH.version} ({variant}) is ready")


def is_present(target, variant):
    """Tells whether `target` holds this variant, or any variant when none is named, of the version wanted."""
    stamp = target / "variant"
    version, _, present = stamp.read_text(encoding="utf-8").strip().partition(" ") if stamp.exists() else ("", "", "")
    return version == TORCH.version and variant in (None, present)


def main(arguments):
    if len(arguments) > 1 or any(a not in NEEDED_BYTES for a in arguments):
        wheels.fail(f"unknown variant `{' '.join(arguments)}` (known: cpu, cuda)")
    own = os.environ.get("LIBTORCH")
    if own:
        return check_own(Path(own))
    target = ROOT / ".libtorch"
    wanted = arguments[0] if arguments else None
    if not is_present(target, wanted):
        with wheels.lock("libtorch"):
            if not is_present(target, wanted):
                fetch(wanted or "cpu", target)


if __name__ == "__main__":
    wheels.run(main)
