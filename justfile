# What CI runs, step by step. `just` lists the recipes.

_default:
    @just --list

# Everything that a pull request must pass, but the machine set-up and the live test of .ci/run
ci: fmt clippy test arrows doc deny fuzz-corpus

fmt:
    cargo fmt --all --check

clippy:
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo clippy --package wirespan-agent --features tls --locked -- -D warnings
    cargo clippy --package wirespan-agent --no-default-features --all-targets --locked -- -D warnings

test:
    cargo test --workspace --locked

# No crate uses one that it must not
arrows:
    cargo xtask check-arrows

doc:
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --document-private-items --locked

deny:
    cargo deny check bans licenses sources

# The fuzz bodies over their corpora, on stable
fuzz-corpus:
    cargo test --manifest-path fuzz/Cargo.toml --locked

# One fuzz target for a while; needs nightly and cargo-fuzz
fuzz target seconds="60":
    cargo +nightly fuzz run {{target}} -- -max_total_time={{seconds}} -timeout=10

# Real servers, real clients, tcpdump into replay; needs root
e2e:
    tests/e2e.sh

# Rewrites the goldens
bless:
    cargo xtask bless
