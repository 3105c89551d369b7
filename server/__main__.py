"""`python -m server` is the command `mfa-server`."""

from server.command import main

if __name__ == "__main__":
    main(prog_name="mfa-server")
