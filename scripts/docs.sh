#!/usr/bin/env bash
# Builds the documentation into target/book/: `docs.sh`, or `docs.sh serve` with a page that reloads.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.4.52
mdbook=.tools/mdbook-$version/bin/mdbook
if [ ! -x "$mdbook" ]; then
    echo "building mdBook $version into .tools/ (some minutes, once)" >&2
    cargo install mdbook --version "$version" --locked --debug --quiet --no-default-features --features search \
        --root "${mdbook%/bin/*}"
fi
"$mdbook" "${1:-build}" docs
