"""What is remembered: models with methods named for the rule they keep, sealing, migrations."""
