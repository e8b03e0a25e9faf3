# `just RECIPE`; every recipe is one script or command, and CI runs the same ones.

# All tests, against real programs too (installs what they need)
test *ARGS:
    ./scripts/test {{ARGS}}

# Unit tests alone: no other program, seconds after a change
unit *ARGS:
    cargo nextest run --all-features --lib {{ARGS}}

# Tests of the real binary
it *ARGS:
    cargo nextest run --all-features --test it {{ARGS}}

# Tests against real programs
peers *ARGS:
    ./scripts/peers
    cargo nextest run --all-features --test peers {{ARGS}}

# Formatting, clippy, unused dependencies, spelling
lint:
    ./scripts/peers --lint
    cargo fmt --check
    ./scripts/lint

# Bans, licences, sources and, where the network allows, advisories
deny:
    ./scripts/peers --lint
    ./scripts/deny

# The library's documentation, warnings denied
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --all-features

# What must hold before a merge
ci:
    ./.ci/run

# The whole chain on this machine
demo:
    cargo run --release -- demo

# Minting and documents beside their raw equivalents
bench:
    ./scripts/peers --bench
    cargo bench
