"""Alembic's entry point: migrates in the transaction of the connection that it is given, or prints the SQL text."""

from alembic import context

from wallet_gql.backends.relational.tables import metadata

attributes = context.config.attributes
if context.is_offline_mode():
    context.configure(
        dialect_name=attributes["dialect"],
        output_buffer=attributes["buffer"],
        dialect_opts={"paramstyle": "named"},  # otherwise every percent sign would be doubled
        transactional_ddl=False,  # the caller has begun
    )
else:
    context.configure(connection=attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
