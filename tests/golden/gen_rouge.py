"""Writes rouge_lsum.json: summary-level ROUGE-L of texts of several lines, from rouge-score, ASCII and Unicode words;
rouge_stemmed.json: all variants with use_stemmer=True; stems.txt: words with their stems, from NLTK's PorterStemmer.

    python tests/golden/gen_rouge.py tests/golden [TEXT...]       # rouge-score 0.1.2, nltk 3.10.4

The words are those of Python's own documentation, of the TEXTs (data/biomedical/mcq.jsonl, LICENSE) and made-up ones.
"""
import json, pathlib, pydoc_data.topics, random, re, sys

from nltk.stem.porter import PorterStemmer

from rouge_score import rouge_scorer


class Unicode:
    def tokenize(self, text):
        return re.findall(r"\w+", text.lower())


rng = random.Random(0)
# Few words, so that lines share them and the longest common subsequence is seldom the only one.
words = "il cuore pompa sangue perché è the heart pumps blood; Élan naïve cell-wall CO2".split()
line = lambda: " ".join(rng.choices(words, k=rng.randint(0, 9)))
text = lambda: "\n".join(line() for _ in range(rng.randint(1, 5)))
pairs = [(text(), text()) for _ in range(60)]
long = lambda: "\n".join(" ".join(rng.choices(words[:5], k=rng.randint(60, 140))) for _ in range(3))
pairs += [(long(), long()) for _ in range(4)]
pairs += [("", ""), ("a\n", ""), ("\n\n", "a"), ("a a\na", "a\na x\na a"), ("a b\n\nc d", "c d\r\na b"), ("one line", "one\nline")]
scorers = {"ascii": rouge_scorer.RougeScorer(["rougeLsum"]), "unicode": rouge_scorer.RougeScorer(["rougeLsum"], tokenizer=Unicode())}
cases = [
    dict(reference=r, candidate=c, scores={k: list(map(float, s.score(r, c)["rougeLsum"])) for k, s in scorers.items()})
    for r, c in pairs
]
path = pathlib.Path(sys.argv[1]) / "rouge_lsum.json"
path.write_text(json.dumps(cases, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")

# Stems. Longer than three letters, as rouge-score asks for no others; and some shorter ones.
irregular = """sky skies die dying lie lying tie tying news inning innings outing outings canning cannings howe proceed exceed
succeed proceeding exceeds succeeds ties tied dies died lies cries cried spied flies fly try tries spy enjoy enjoyment
happy caresses ponies caress cats feed agreed plastered bled motoring sing conflated troubled sized hopping tanned falling
hissing fizzed failing filing syzygy yyyy yyyyed toy by ivy oaten orrery geology theology logi apology analogy biology
vietnamization conformably radically nationally rationally formally fully hopefully thankfully controll roll rolled
controlling generalizations oscillators probate rate cease adoption homologou homologous replacement adjustment dependent
use used using axed eyed eying owed ow as is was being been ing ed ies ied eed aed oed ying yed co2 h2o b12ing 2nd 1980s
sses ss s ness ful ative ion tion sion allion alli bli eli""".split()
text = " ".join(pydoc_data.topics.topics.values()) + " ".join(pathlib.Path(p).read_text(encoding="utf-8") for p in sys.argv[2:])
vocabulary = sorted(set(re.findall("[a-z0-9]{4,24}", text.lower())))
vocabulary = sorted(rng.sample(vocabulary, 6500))
starts = "b str y gh oy qu e tr ca poly re i k ll u syn".split()
middles = "a at it ay ot en iz bl ook ill ess uy yc ow ax ee".split()
ends = """ational tional enci ency anci izer bly alli ally entli ently eli ousli ization ation ator alism iveness fulness ousness
aliti ality iviti bility fulli fully logi logy icate ative alize iciti icity ical ful ness al ance ence er ic able ible ant
ement ment ent sion tion ion ou ism ate iti ous ive ize e ll lle sses ies ied eed ed ing y s ss""".split()
made_up = ["".join((rng.choice(starts), *rng.choices(middles, k=rng.randint(0, 2)), rng.choice(ends), rng.choice(["", "", "s", "ed", "ly"]))) for _ in range(3500)]
stemmer = PorterStemmer()
lines = [f"{word} {stemmer.stem(word)}" for word in dict.fromkeys(irregular + vocabulary + made_up)]
path.with_name("stems.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

# The same words in other forms, so that stems match where words do not; among them short ones, accents and line breaks.
words = """hearts heart pumping pumps pumped blood bloods perché dying dies die dye his hi was the relational relate relates skies sky
generalization generally generalize it's cell-walls cells running runs run""".split()
pairs = [(text(), text()) for text in [lambda: "\n".join(line() for _ in range(rng.randint(1, 4)))] for _ in range(80)]
pairs += [("", ""), ("hearts", ""), ("Dying SKIES", "die sky"), ("news", "new"), ("his", "hi")]
variants = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
scorer = rouge_scorer.RougeScorer(variants, use_stemmer=True)
cases = [
    dict(reference=r, candidate=c, scores={k: list(map(float, v)) for k, v in scorer.score(r, c).items()}) for r, c in pairs
]
path.with_name("rouge_stemmed.json").write_text(json.dumps(cases, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
