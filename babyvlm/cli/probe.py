"""Probing a run: what can be read from its frozen features. Explained in nbs/probing/06_probe_report.ipynb."""

from pathlib import Path

from babyvlm.core.basics import WrongInput, open_out, read_json

PICTURES = 480  # of the nursery's, or of a corpus
LABELS = 12  # nouns of a corpus that are asked, the most frequent
FEWEST = 12  # pictures that a noun of a corpus must have


def probe_run(run, out, corpus=None, seed=0, pictures=PICTURES):
    "Probe a learner at every layer, write OUT/probe.json and OUT/probe.html, print the table; returns the report."
    from babyvlm.core.corpus import read_corpus
    from babyvlm.models.load import load_learner
    from babyvlm.probing.features import learner_key
    from babyvlm.probing.probe_report import probe_learner, probe_text, write_probes

    learner = load_learner(run)
    corpus = None if corpus is None else read_corpus(corpus)
    out = open_out(out, dict(weights=learner_key(learner), corpus=corpus and corpus.sha256, seed=seed, pictures=pictures), "probing.json")
    images, questions = from_nursery(seed, pictures, learner.px or 224) if corpus is None else from_corpus(corpus, run, pictures, seed)
    report = probe_learner(learner, images, questions, folder=out / "features", seed=seed)
    report |= dict(source="nursery" if corpus is None else f"corpus {corpus.path.name}")
    page = write_probes(report, out)
    print(probe_text(report))
    print(f"all layers: {page}")
    return report


def from_nursery(seed, count, px):
    "Pictures of one toy each, every one a scene of its own; which toy, and of what colour when the toy was never shown."
    import numpy as np

    from babyvlm.nursery.stimuli import design
    from babyvlm.probing.probe_report import Question

    orders = design(count, seed)
    images = [order.draw(seed, min(px, 224))[0] for order in orders]
    nouns, colours = np.array([order.toys[0][:2] for order in orders]).T
    scenes = np.arange(len(orders))
    return images, [Question("noun", nouns, scenes), Question("colour", colours, scenes), Question("colour of new nouns", colours, nouns, "noun")]


def from_corpus(corpus, run, count, seed):
    "Frames while a noun was said, outside what the run was trained on; which noun it was, with no recording on both sides."
    import numpy as np

    from babyvlm.core.basics import rng
    from babyvlm.nursery.things import NOUNS
    from babyvlm.probing.probe_report import Question

    pairs = corpus.pairs()
    if trained_on(run) == corpus.sha256:
        pairs = pairs[pairs.split != "train"]
    pairs = pairs.assign(noun=[next((word for word in text.lower().split() if word in NOUNS), None) for text in pairs.text])
    pairs = pairs.dropna(subset="noun").drop_duplicates("frame_id")
    often = pairs.noun.value_counts()
    names = list(often[often >= FEWEST].index[:LABELS])
    if len(names) < 2:
        raise WrongInput(f"corpus: {corpus.path} has {len(names)} nouns that were said {FEWEST} times outside what the run was trained on; two are needed")
    pairs = pairs[pairs.noun.isin(names)].reset_index(drop=True)
    pairs = pairs.iloc[np.sort(rng(seed, "probe").permutation(len(pairs))[:count])]
    seen = dict(corpus.images(pairs.frame_id))
    return [seen[f] for f in pairs.frame_id], [Question("noun said", pairs.noun.to_numpy(str), pairs.recording_id.to_numpy(str), "recording")]


def trained_on(run):
    "The fingerprint of the corpus that a run was trained on; None where it does not say."
    card = Path(run) / "run.json"
    return read_json(card, "run").get("corpus", {}).get("sha256") if card.is_file() else None
