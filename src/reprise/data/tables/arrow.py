"""pyarrow, which has no type stubs, imported in one place. Takes 0.2 s: import modules that need it late."""

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.csv as arrow_csv  # type: ignore[import-untyped]
import pyarrow.parquet as arrow_parquet  # type: ignore[import-untyped]

__all__ = ["arrow_csv", "arrow_parquet", "pa", "pc"]
