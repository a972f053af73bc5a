#!/usr/bin/env bash
# Licences, sources and duplicates of the dependencies by deny.toml; known holes where the database of them can be fetched.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.20.2
deny=.tools/cargo-deny-$version/bin/cargo-deny
if [ ! -x "$deny" ]; then
    echo "building cargo-deny $version into .tools/ (two minutes, once)" >&2
    cargo install cargo-deny --version "$version" --locked --debug --quiet --root "${deny%/bin/*}"
fi
"$deny" --log-level error check licenses bans sources
if ! said=$("$deny" --log-level error check advisories 2>&1); then
    if [[ $said == *"failed to fetch advisory database"* ]]; then
        echo "warning: the database of known holes could not be fetched, so they were not looked for" >&2
    else
        echo "$said" >&2
        exit 1
    fi
fi
