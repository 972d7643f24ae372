"""What both APIs are made from: `errors` (statuses, codes, spelling) and `operations` (names, refusals)."""
