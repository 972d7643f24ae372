"""How the wallet is reached: GraphQL, REST and the command line. Nothing else imports Strawberry or Starlette."""
