"Builds the package; every value comes from settings.ini, and the samples and tutorials travel inside the wheel."
import shlex
import shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
config = parser["DEFAULT"]
shipped = {"data_samples": here / "data_samples", "tutorials": here / "nbs" / "tutorials"}
extras = ("dev", "docs", "speech", "elan", "chat", "cluster", "asr", "track")


class BuildWithSamples(build_py):
    "Copies what `core.samples` finds into `babyvlm/shipped`."

    def run(self):
        super().run()
        if self.editable_mode:
            return
        for name, source in shipped.items():
            target = Path(self.build_lib) / config["lib_path"] / "shipped" / name
            shutil.rmtree(target, ignore_errors=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*", "__pycache__"))


def required(key):
    return shlex.split(config.get(key, "").replace("\n", " "))


readme = here / "README.md"
setup(
    name=config["lib_name"],
    version=config["version"],
    description=config["description"],
    author=config["author"],
    author_email=config["author_email"],
    url=config["git_url"],
    license="Apache-2.0",
    keywords=config["keywords"].split(),
    classifiers=["Programming Language :: Python :: 3", f"Natural Language :: {config['language']}"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    packages=find_packages(include=[config["lib_path"], config["lib_path"] + ".*"]),
    package_data={config["lib_path"]: ["**/*.js", "**/*.json", "**/*.css"]},
    install_requires=required("requirements"),
    extras_require={name: required(f"{name}_requirements") for name in extras},
    python_requires=">=" + config["min_python"],
    entry_points={
        "console_scripts": [line for line in config["console_scripts"].splitlines() if line.strip()],
        "nbdev": [f"{config['lib_path']}={config['lib_path']}._modidx:d"],
    },
    cmdclass={"build_py": BuildWithSamples},
    zip_safe=False,
)
