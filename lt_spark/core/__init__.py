"""What every room stands on: errors, configuration, tables, storage, session, runs."""
