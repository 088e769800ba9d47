"""What a study's runs amount to: tables, plots, and one page with both."""
