"""preprocess: convert published files, or the files of the user, to arrays (.npy) and meta.json. Fits nothing."""

from pathlib import Path

from rich.console import Console

from reprise.config import DataConfig
from reprise.data import store
from reprise.data.modality import arrays_of
from reprise.project_paths import ProjectPaths


def run(data: DataConfig, paths: ProjectPaths, console: Console) -> Path:
    """Write data/processed/<data set>/ and return it. The modality decides which arrays and files it holds."""
    modality = arrays_of(data.kind)
    made = modality.read(data, paths.raw(data.name), console)
    folder = paths.processed(data.name)
    with store.publish(folder) as draft:
        for name, array in made.arrays.items():
            store.write_array(draft / f"{name}.npy", array)
        store.write_json(draft / "meta.json", {**modality.describe(data), **made.meta})
        for name, content in made.files.items():
            store.write_json(draft / f"{name}.json", content)
    shapes = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in made.arrays.items())
    console.print(f"preprocess  {data.name}: {shapes}", highlight=False, soft_wrap=True)
    return folder
