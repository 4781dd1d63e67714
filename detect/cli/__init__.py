"""The command line: from arguments to typed options."""
