"""Writes edit.json: word and character error rates, from jiwer, with and without its normalizations.

    python tests/golden/gen_edit.py tests/golden          # jiwer 4.0.0
"""
import json, pathlib, random, sys

import jiwer

rng = random.Random(0)
words = "il cuore pompa Sangue, perché? È the Heart pumps blood; Élan naïve “cell-wall” CO2 … İ ΟΔΟΣ ß $5 a a a".split()
line = lambda most: " ".join(rng.choices(words, k=rng.randint(1, most)))


def near(text):
    """`text` with a few words dropped, doubled or exchanged, in another case, with other white space."""
    out = []
    for word in text.split():
        out += rng.choices([[word], [], [word, word], [rng.choice(words)], [word.upper()], [word[1:]]], [8, 1, 1, 1, 1, 1])[0]
    return rng.choice([" ", "  ", "\n", " \t"]).join(out)


references = [line(rng.choice([3, 12, 40])) for _ in range(60)]
pairs = [(r, near(r)) for r in references] + [(line(3), line(30)) for _ in range(12)]
pairs += [("kitten", "sitting"), ("yes", ""), ("a b", " a b\n"), ("a", "b c d"), (" A, b ", "a b")]
levels = {"word": [jiwer.RemoveWhiteSpace(replace_by_space=True), jiwer.RemoveMultipleSpaces(), jiwer.Strip(), jiwer.ReduceToListOfListOfWords()],
          "character": [jiwer.Strip(), jiwer.ReduceToListOfListOfChars()]}
cases = []
for reference, candidate in pairs:
    rates = {}
    for level, last in levels.items():
        for name, first in {"": [], " lowercase": [jiwer.ToLowerCase()], " punctuation": [jiwer.RemovePunctuation()],
                            " lowercase punctuation": [jiwer.ToLowerCase(), jiwer.RemovePunctuation()]}.items():
            transform = jiwer.Compose(first + last)
            rate = jiwer.wer if level == "word" else jiwer.cer
            units = transform(reference)[0]
            rates[level + name] = rate(reference, candidate, transform, transform) if units else None
    cases.append(dict(reference=reference, candidate=candidate, rates=rates))
path = pathlib.Path(sys.argv[1]) / "edit.json"
path.write_text(json.dumps(cases, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
