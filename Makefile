.PHONY: build run test check

build:
	cargo build --release

run:
	cargo xtask cluster 3

test:
	cargo test --workspace

check:
	cargo xtask check
