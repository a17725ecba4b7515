"""The command line: dispatch, LightningCLI, configuration files, help and messages."""
