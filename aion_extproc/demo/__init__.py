"""The built-in demo upstream: stands in for providers on a laptop with no key and no network."""
