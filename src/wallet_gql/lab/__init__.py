"""The lab: compares backends by what a history, a load or a fault shows. The command is `wallet-gql lab`.

| module | what it is |
|---|---|
| `workload` | clients that pay, hold and read, and the history that they record |
| `history` | the history: every call with its outcome and its times, and the journal of its accounts |
| `graph` | which operation came before which, and the cycles that Adya's levels forbid |
| `check` | judges a history, and compares what was seen with what the backend claims |
| `schedule` | a load, drawn in full beforehand, with its digest |
| `doors` | the ways in to a ledger: its verbs, or requests to the GraphQL API |
| `load` | runs schedules against backends, open loop, in interleaved rounds |
| `cost` | what a transfer costs: syncs, bytes, commits, round trips, processor time |
| `fault` | servers killed, connections cut, clocks stepped under load; how soon everything is answered again |
| `power` | how often `check` convicts backends that were broken on purpose |
| `stats` | intervals of repeated rounds; latencies in histograms |
| `environment`, `results` | what figures depend on; files that runs add to |
| `compare` | two folders of results side by side |
| `tables` | what the commands print |
| `report` | one HTML page about a folder of results |
| `formats` | a history as JSON lines, as EDN for Elle, and as input for Porcupine |

It needs the extra `wallet-gql[lab]`. Backends and how to start them come from `wallet_gql.testing.harness`; the lab
knows none by name.
"""
