"""How each proof works: pure functions, no HTTP, no database, no clock; time and randomness are passed in."""
