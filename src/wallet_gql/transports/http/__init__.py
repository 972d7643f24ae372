"""What both APIs share: log-in state, errors, headers, limits, TLS."""
