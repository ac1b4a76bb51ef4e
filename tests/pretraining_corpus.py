"""A small corpus of coloured cards, in all views, for the tests of pretraining."""

import numpy as np

from babyvlm.core.basics import write_json
from babyvlm.core.corpus import write_table
from babyvlm.core.records import encode_image

COLOURS = dict(red=(200, 30, 30), blue=(30, 50, 200), green=(30, 150, 50), yellow=(220, 190, 30))


def coloured_corpus(folder, count=16, views=("video", "interleaved", "text", "instruct"), ids="r"):
    "Utterances that name the colour of a card, a frame for each; `views` beside image."
    rand = np.random.default_rng(0)
    folder.mkdir()
    said = [(f"u{i:03d}", list(COLOURS)[i % 4], 2.0 * i) for i in range(count)]

    def picture(word):
        image = rand.integers(90, 130, (64, 64, 3)).astype(np.uint8)
        image[12:44, 20:52] = COLOURS[word]
        return dict(bytes=encode_image(image), path=None)

    def neighbours(k):
        return said[k : k + 4] if k + 4 <= count else said[-4:]

    tables = dict(
        recordings=[dict(recording_id=ids, child_id="a", age_days=300, path="r.mp4", duration_s=2.0 * count, status="ok", problem="")],
        utterances=[dict(utterance_id=u, recording_id=ids, onset_s=t, offset_s=t + 1, speaker_type="FEM", text=f"a {w} one", keep=True) for u, w, t in said],
        image=[dict(pair_id=f"p{u}", utterance_id=u, frame_id=f"f{u}", recording_id=ids) for u, *_ in said],
        video=[dict(clip_id=f"c{u}", utterance_id=u, recording_id=ids, onset_s=t, offset_s=t + 1, frame_ids=[f"f{u}"] * 2) for u, _, t in said],
        interleaved=[dict(item_id=f"i{k}", recording_id=ids, utterance_ids=[u for u, *_ in neighbours(k)], frame_ids=[f"f{u}" for u, *_ in neighbours(k)]) for k in range(0, count, 2)],
        text=[dict(utterance_id=u, recording_id=ids) for u, *_ in said],
        instruct=[dict(item_id=f"q{u}", task="colour_words", split="train", images=[picture(w)], prompt="which colour is it", answer=w) for u, w, _ in said],
        splits=[dict(recording_id=ids, child_id="a", split="train")],
    )  # fmt: skip
    for name, rows in tables.items():
        if name not in ("video", "interleaved", "text", "instruct") or name in views:
            write_table(folder / f"{name}.parquet", rows, name)
    frames = [dict(frame_id=f"f{u}", recording_id=ids, time_s=t, image=picture(w), keep=True) for u, w, t in said]
    write_table(folder / "frames-0.parquet", frames, "frames")
    write_json(folder / "corpus.json", dict(counts=dict(pairs=count), recordings=[ids], parameters=dict(fps=0.5), release_level="Public"))
    return folder
