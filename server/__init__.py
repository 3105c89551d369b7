"""How the process stands up and faces HTTP: app, command line, settings, tokens, problems, courier."""
