"""Real servers for tests: found on this machine, started on free loopback ports, and ended with the test process.

A server is looked for in an environment variable, then as a system program, then in a PyPI wheel. If there is none,
`ServerMissing` says what would help.
"""
