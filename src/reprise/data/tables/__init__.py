"""Read series from CSV and Parquet tables: `reader.read_table` with the settings of `format.TableFormat`.

Data flow: bytes → `text` (encoding, separator, header) → `cells` (columns) → `columns` (their roles) → `dates`, `zones` and
`numbers` (values) → `checks` and `grid` (order, duplicates, gaps) → `series`.
"""
