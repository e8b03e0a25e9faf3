# `just RECIPE`; every recipe is one script or command, and CI runs the same ones.

# All tests, against real programs too (installs what they need)
test *ARGS:
    ./scripts/test {{ARGS}}

# Formatting and clippy
lint:
    cargo fmt --check
    ./scripts/lint

# Bans, licences, sources and, where the network allows, advisories
deny:
    ./scripts/peers --deny
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
