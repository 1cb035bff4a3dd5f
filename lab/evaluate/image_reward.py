"""Worker of ImageReward, run by a Python that has the package image-reward and nothing of this pack.

Standard input: JSON list of {"picture", "text"}. Last line of standard output: JSON list of the values.
"""

import json
import sys


def main() -> None:
    import ImageReward  # pyright: ignore[reportMissingImports]

    folder = sys.argv[1] if len(sys.argv) > 1 else ""
    name = f"{folder}/ImageReward.pt" if folder else "ImageReward-v1.0"
    model = ImageReward.load(name, med_config=f"{folder}/med_config.json") if folder else ImageReward.load(name)
    print(json.dumps([float(model.score(one["text"], one["picture"])) for one in json.load(sys.stdin)]))


if __name__ == "__main__":
    main()
