"""The networks of audiojax in other frameworks, for parity tests and benchmarks only."""
