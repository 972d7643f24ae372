"""What the SQL backends share: tables, rows, migrations."""
