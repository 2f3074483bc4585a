"""Put conf/ and dvc.yaml into the wheel, where `reprise.config.conf_files` finds them. All else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConf(build_py):
    """Builds the package with the files that a project outside a clone composes its configs from."""

    def run(self) -> None:
        """Build, then copy the files. An editable installation reads those of the clone."""
        super().run()
        if self.editable_mode:
            return
        shipped = Path(self.build_lib) / "reprise" / "shipped"
        shutil.copytree("conf", shipped / "conf", ignore=shutil.ignore_patterns("pipeline.yaml"), dirs_exist_ok=True)
        shutil.copyfile("dvc.yaml", shipped / "dvc.yaml")


setup(cmdclass={"build_py": BuildWithConf})
