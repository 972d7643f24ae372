"""How the wallet is reached: GraphQL over HTTP, and the command line. Nothing else knows Strawberry or Starlette."""
