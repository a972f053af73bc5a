"""What is done to a sweep: each trial takes a fresh project, disturbs it, and lets it end; `Trial.check` compares the results."""
import glob
import hashlib
import os
import shutil
import signal
import subprocess
import time

# What an attempt leaves beside a result: times, host, log.
BOOKKEEPING = {"key.json", "events.jsonl", "worker.log", "record.json", "manifest.json"}
ASKED = ["show", "history", "cost", "cache ls", "cache verify", "plan soak.toml", "metrics latest", "logs latest",
         "samples latest", "compare latest", "cache gc", "query"]


class Difference(Exception):
    """Something is not as in an undisturbed run."""


def results(project):
    """The digest of every file of every result, by key and name."""
    found = {}
    for directory in glob.glob(os.path.join(project, "runs/cache/*")):
        for root, _, names in os.walk(directory):
            for name in names:
                path = os.path.join(root, name)
                if name not in BOOKKEEPING:
                    with open(path, "rb") as file:
                        found[os.path.relpath(path, os.path.join(project, "runs/cache"))] = hashlib.sha256(file.read()).hexdigest()
    return found


class Trial:
    """A project and the program to run in it."""

    def __init__(self, program, project, draws, expected):
        self.program, self.project, self.draws, self.expected = program, project, draws, expected
        self.children, self.checked, self.may_leave_attempts, self.note = [], False, False, ""

    def start(self, *arguments):
        log = open(os.path.join(self.project, "said.log"), "ab")
        log.write(f"\n$ orchestrate {' '.join(arguments)}\n".encode())
        log.flush()
        return subprocess.Popen([self.program, *arguments], cwd=self.project, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def run(self, *arguments, limit=300):
        child = self.start(*arguments)
        try:
            return child.wait(limit)
        except subprocess.TimeoutExpired:
            child.kill()
            raise Difference(f"`orchestrate {' '.join(arguments)}` did not end within {limit} s") from None

    def must(self, *arguments, codes=(0,)):
        code = self.run(*arguments)
        if code not in codes:
            raise Difference(f"`orchestrate {' '.join(arguments)}` ended with {code}")

    def workers(self):
        """Processes below this project but for the program itself: workers and what they run."""
        found = []
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(path, "rb") as file:
                    words = file.read()
                pid = int(path.split("/")[2])
            except (OSError, ValueError):
                continue
            if self.project.encode() in words and b"runs/work/" in words and pid != os.getpid():
                found.append(pid)
        return found

    def check(self):
        """The results are those of an undisturbed run, and whole."""
        found = results(self.project)
        if found != self.expected:
            names = {name for name in found.keys() | self.expected.keys() if found.get(name) != self.expected.get(name)}
            raise Difference(f"other results: {sorted(names)}")
        self.must("cache", "verify")
        left = os.listdir(os.path.join(self.project, "runs/work"))
        if left and not self.may_leave_attempts:
            raise Difference(f"left over in runs/work: {left}")


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def attack(trial, child):
    """Kills the run, a worker or both, perhaps while all are stopped."""
    time.sleep(trial.draws.uniform(0, trial.draws.choice([0.5, 3, 8])))
    workers = trial.workers()
    victims = {
        "run": [child.pid],
        "worker": [trial.draws.choice(workers)] if workers else [child.pid],
        "both": [child.pid, *workers],
    }[trial.draws.choice(["run", "worker", "both"])]
    number = trial.draws.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGHUP, signal.SIGINT])
    stopped = [child.pid, *workers] if trial.draws.random() < 0.3 else []
    for pid in stopped:
        send(pid, signal.SIGSTOP)
    for pid in victims:
        send(pid, number)
    for pid in stopped:
        send(pid, signal.SIGCONT)


def kills(trial, *more):
    """A run is attacked up to three times, then goes on by `resume` or by `run`."""
    command = ["run", "soak.toml", *more]
    for _ in range(trial.draws.randint(1, 3)):
        child = trial.start(*command)
        attack(trial, child)
        if trial.draws.random() < 0.5:
            child.wait(300)
        else:
            time.sleep(trial.draws.uniform(0, 1))  # the next one begins beside what is left of it
        code = child.poll()
        # a killed run is not waited for by everybody: it stays a zombie until the end of the trial
        command = ["resume"] if code not in (None, 0) and trial.draws.random() < 0.5 else ["run", "soak.toml", *more]
        trial.children.append(child)
    for child in trial.children:
        child.wait(300)
    trial.must("run", "soak.toml")


def force(trial):
    """Finished results are made again, and that is attacked."""
    trial.must("run", "soak.toml")
    trial.may_leave_attempts = True  # of results that are there already
    kills(trial, "--force")
    if trial.run("resume") not in (0, 5):
        raise Difference("what was forced cannot be resumed")


def collect(trial):
    """Old and unused results are removed all the time beside a run."""
    child = trial.start("run", "soak.toml")
    while child.poll() is None:
        policy = trial.draws.choice([["--older-than", "0s"], ["--unreferenced"], ["--max-size", "1KB"], ["--older-than", "0s", "--leftovers", "0s"]])
        trial.must("cache", "gc", *policy, "--delete")
    if child.returncode != 0:
        raise Difference(f"a run beside `cache gc` ended with {child.returncode}")
    trial.must("run", "soak.toml")


def race(trial):
    """Several runs want the same results at once."""
    children = [trial.start("run", "soak.toml") for _ in range(trial.draws.randint(2, 5))]
    codes = [child.wait(300) for child in children]
    if any(codes):
        raise Difference(f"runs at the same time ended with {codes}")


def full_disk(trial):
    """The disk is full in the run; then there is room."""
    runs = os.path.join(trial.project, "runs")
    os.makedirs(runs)
    size = trial.draws.choice([64, 128, 256, 512, 1024, 2048])
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", runs], check=True, capture_output=True)
    try:
        code = trial.run("run", "soak.toml")
        if code in (101, 134, 139) or code < 0:
            raise Difference(f"a run on a full disk of {size} KiB ended with {code}")
        subprocess.run(["mount", "-o", "remount,size=1g", runs], check=True)
        trial.must("run", "soak.toml")
        trial.check()
    finally:
        subprocess.run(["umount", "-l", runs], check=True)
    trial.checked = True


def edits(trial):
    """Data change while a run trains: a result is what its key says, or there is none."""
    path = os.path.join(trial.project, trial.draws.choice(["data/text.txt", "data/mcq.jsonl", "models/tiny/tokenizer_config.json"]))
    with open(path, "rb") as file:
        before = file.read()
    child = trial.start("run", "soak.toml")
    time.sleep(trial.draws.uniform(0, 6))
    with open(path, "wb") as file:
        file.write(before.replace(b"blood", b"water").replace(b"user", b"USER").replace(b"<|im_start|>", b"<|im_end|>", 1))
    code = child.wait(300)
    if code not in (0, 4):
        raise Difference(f"a run whose data changed ended with {code}")
    with open(path, "wb") as file:
        file.write(before)
    trial.must("run", "soak.toml")
    extra = {name: digest for name, digest in results(trial.project).items() if name not in trial.expected}
    for name in extra:  # results of the other content, under keys of their own
        shutil.rmtree(os.path.join(trial.project, "runs/cache", name.split("/")[0]), ignore_errors=True)


def damaged(bytes_, draws):
    """One of the ways in which a file is damaged."""
    at = draws.randrange(len(bytes_)) if bytes_ else 0
    return draws.choice([
        lambda: bytes_[:at] + bytes([bytes_[at] ^ (1 << draws.randrange(8))]) + bytes_[at + 1:] if bytes_ else b"x",
        lambda: bytes_[:at],
        lambda: b"",
        lambda: bytes(len(bytes_)),
        lambda: bytes(draws.randrange(256) for _ in range(200)),
        lambda: bytes_ + b"\nmore\n",
        lambda: None,
    ])()


def damage(trial):
    """A file of `runs/` is damaged; every command answers, and what is made again is right."""
    trial.must("run", "soak.toml")
    if trial.draws.random() < 0.3:
        trial.may_leave_attempts = True
        child = trial.start("run", "soak.toml", "--force")
        attack(trial, child)
        child.wait(300)
    files = [os.path.join(root, name) for root, _, names in os.walk(os.path.join(trial.project, "runs")) for name in names]
    path = trial.draws.choice(files)
    with open(path, "rb") as file:
        content = damaged(file.read(), trial.draws)
    if content is None:
        os.remove(path)
    else:
        with open(path, "wb") as file:
            file.write(content)
    trial.note = os.path.relpath(path, trial.project)
    for command in ASKED:
        words = ["query", "SELECT * FROM stages"] if command == "query" else command.split()
        code = trial.run(*words, limit=60)
        if code in (101, 134, 139) or code < 0:
            raise Difference(f"`{command}` ended with {code}")
    trial.run("cache", "verify")  # moves what is damaged away
    code = trial.run("run", "soak.toml")
    if code == 0:
        return
    if "history.db" in path or code != 6:
        raise Difference(f"after damage to {trial.note} `run` ended with {code}")


MODES = {"kill": kills, "force": force, "gc": collect, "race": race, "full disk": full_disk, "edit": edits, "damage": damage}
