"""Alembic's entry: runs on the connection it is given, in that connection's transaction, or writes the SQL as text."""

from alembic import context

from wallet_gql.backends.relational.tables import metadata

attributes = context.config.attributes
if context.is_offline_mode():
    context.configure(
        dialect_name=attributes["dialect"],
        output_buffer=attributes["buffer"],
        dialect_opts={"paramstyle": "named"},  # else every percent sign is doubled
        transactional_ddl=False,  # the caller has begun
    )
else:
    context.configure(connection=attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
