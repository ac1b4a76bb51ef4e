"""README.md from index.ipynb, without quarto: prose as it is, code cells as fenced blocks, hidden cells left out."""

import json
from pathlib import Path

here = Path(__file__).parent


def readme() -> str:
    "The text of README.md."
    blocks = ["<!-- Made from nbs/index.ipynb by nbs/make_readme.py; edit the notebook. -->"]
    for cell in json.loads((here / "index.ipynb").read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"]).strip()
        if not source or source.startswith("#| hide"):
            continue
        blocks.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    return "\n\n".join(blocks) + "\n"


if __name__ == "__main__":
    (here.parent / "README.md").write_text(readme(), encoding="utf-8")
