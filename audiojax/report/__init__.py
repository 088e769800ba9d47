"""The report of a study: scores, tables, plots, and one page with all of them."""
