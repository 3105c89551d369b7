"""A failover drill: mfa-server on a PostgreSQL cluster whose primary is killed, again and again, under load."""
