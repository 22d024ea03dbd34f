"""Commands that need no trainer: each a module with `main(arguments) -> exit code`."""
