"""What every experiment is made of: registry, findings, report, files."""
