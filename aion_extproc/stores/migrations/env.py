"""What alembic runs for every command: the migrations, in the transaction that the caller has begun."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
