"""Alembic's entry: runs on the connection it is given, in that connection's transaction."""

from alembic import context

from wallet_gql.backends._tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
