"""From one chat API to the other: requests, JSON answers, streams, errors. Pure functions and incremental parsers."""
