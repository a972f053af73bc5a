"""The program under comparison, as its users call it."""
import json
import os
import subprocess


class Program:
    """`orchestrate` in a directory."""

    def __init__(self, path, directory):
        self.path, self.directory = os.path.abspath(path), directory

    def run(self, *arguments, lines=None):
        """Its standard output; `lines` are objects for its standard input."""
        text = None if lines is None else "".join(json.dumps(line) + "\n" for line in lines)
        ended = subprocess.run([self.path, *arguments], cwd=self.directory, input=text, capture_output=True, text=True)
        if ended.returncode != 0:
            raise SystemExit(f"{' '.join(arguments)} ended with {ended.returncode}:\n{ended.stderr}")
        return ended.stdout

    def json(self, *arguments, lines=None):
        """Its standard output as one object a line."""
        return [json.loads(line) for line in self.run(*arguments, "--json", lines=lines).splitlines()]
