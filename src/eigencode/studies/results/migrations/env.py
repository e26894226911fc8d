"""What alembic runs to bring a store to the present schema; the connection is handed over by ``Store``."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
