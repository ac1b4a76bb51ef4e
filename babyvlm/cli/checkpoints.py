"""The past of a run: its earlier checkpoints as learners, loaded when they are asked. Explained in nbs/milestones/09_judge.ipynb."""

from pathlib import Path

from babyvlm.core.basics import read_json, sha256


class Checkpoint:
    "An earlier checkpoint of a run: its card is read at once, its weights when it is asked, and let go of afterwards."

    def __init__(self, run, folder, of):
        run, folder = Path(run), Path(folder)
        card, made = read_json(run / "run.json", "run"), read_json(folder / "trainer.json", "checkpoint")
        self.run, self.folder, self.learner, self.checkpoint_of = run, folder, None, of
        self.step, self.seed, self.ledger = made.get("step"), card.get("seed", 0), card.get("ledger", {})
        self.seen, self.cost, self.parameters = made.get("seen"), made.get("cost"), None
        self.started_from = (card.get("settings") or {}).get("start")
        self.words_seen, self.name = (made.get("seen") or {}).get("words"), f"{of} step {self.step}"
        self.words_heard = set(read_json(folder / "tokenizer_words.json", "checkpoint")["words"])
        self.px = self.image_px = self.max_px = read_json(folder / "preprocess.json", "checkpoint")["image_px"]
        self.run_sha256 = sha256(folder / "SHA256SUMS")

    def __getattr__(self, name):
        if name.startswith("__"):  # copying and pickling ask for these before there is anything to load
            raise AttributeError(name)
        if self.learner is None:
            from babyvlm.models.load import load_learner

            self.learner = load_learner(self.run, self.folder.name)
        return getattr(self.learner, name)

    def release(self):
        "Let go of the weights."
        self.learner = None


def earlier(run, of) -> list:
    "The checkpoints of a run before its last, oldest first; none where RUN is a model without a past."
    folders = sorted(Path(run).glob("checkpoints/step-*"))
    last = Path(run) / "checkpoints" / "latest"
    newest = last.read_text().strip() if last.is_file() else ""
    return [Checkpoint(run, folder, of) for folder in folders if folder.name < newest and (folder / "SHA256SUMS").is_file()]
