"""Real servers for tests: found on this machine, started on free loopback ports, and ended with the process.

Each is looked for as an environment variable, then as a system program, then in a PyPI wheel; where none is there,
`ServerMissing` says what would help.
"""
