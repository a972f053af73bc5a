"""Checks whether a text follows instructions, with the 25 kinds of IFEval (arXiv:2311.07911).

A program for the reward component `command`:

    [stages.grpo.rewards.ifeval]
    kind = "command"
    command = ["python3", "recipes/rewards/ifeval.py"]
    files = ["recipes/rewards/ifeval.py"]

The row's answer is JSON with the fields of the published data set, `instruction_id_list` and `kwargs`:

    [data.NAME]
    answer = "{{ {'instruction_id_list': instruction_id_list, 'kwargs': kwargs} | tojson }}"

The value is the fraction of the instructions that the text follows; with the argument `--all` it is 1 if the text
follows all of them, else 0. `metrics` has `all` (all are followed) and `loose` (the fraction that is followed by the
text or by a text without its first line, its last line or its asterisks, whichever is best for an instruction).

Differences from the published checks: keywords are literal texts instead of regular expressions; sentences are counted
and words in capitals are found without nltk; `language:response_language` needs the package `langdetect`, and is
missing without it; English in upper or lower case is Latin letters without `langdetect`.
"""

import json
import re
import resource
import sys

try:
    import langdetect

    langdetect.DetectorFactory.seed = 0
except ImportError:
    langdetect = None

MEMORY_BYTES = 2 << 30
LONGEST_TEXT = 200_000
CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
ABBREVIATION = re.compile(r"\b(?:[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|e\.g|i\.e|Inc|Ltd|Co|No)\.$")


class Unknown(Exception):
    """An instruction that cannot be checked; the value is missing."""


def related(count, threshold, relation):
    if relation == "less than":
        return count < threshold
    if relation == "at least":
        return count >= threshold
    raise Unknown(f"the relation `{relation}` is not known")


def sentences(text):
    """The number of sentences: pieces that end in `.`, `!` or `?` before white space, not after an abbreviation."""
    count, start = 0, 0
    for found in re.finditer(r"[.!?]+[\"')\]]*(?=\s|$)", text):
        piece = text[start : found.end()]
        before = text[max(start, found.start() - 8) : found.start() + 1]
        if found.group() == "." and ABBREVIATION.search(before):
            continue
        count += bool(re.search(r"\w", piece))
        start = found.end()
    return count + bool(re.search(r"\w", text[start:]))


def language(text, wanted):
    if langdetect is None:
        raise Unknown("`language:response_language` needs the package `langdetect`")
    try:
        return langdetect.detect(text) == wanted
    except langdetect.LangDetectException:
        return True  # as published: a text without a language follows


def english(text):
    if langdetect is None:
        letters = [c for c in text if c.isalpha()]
        return all(c.isascii() for c in letters)
    return language(text, "en")


def paragraphs(text, wanted):
    pieces = re.split(r"\s?\*\*\*\s?", text)
    count = len(pieces)
    for index, piece in enumerate(pieces):
        if not piece.strip():
            if index in (0, len(pieces) - 1):
                count -= 1
            else:
                return False
    return count == wanted


def nth_paragraph(text, number, nth, first_word):
    pieces = text.split("\n\n")
    count = sum(bool(piece.strip()) for piece in pieces)
    if nth > count or nth < 1:
        return False
    piece = pieces[nth - 1].strip()
    if not piece:
        return False
    word = ""
    for letter in piece.split()[0].lstrip("'").lstrip('"'):
        if letter in ".,?!'\"":
            break
        word += letter.lower()
    return count == number and word == first_word.lower()


def placeholders(text):
    return len(re.findall(r"\[[^\[\]\n]*\]", text))


def bullets(text):
    starred = re.findall(r"^[^\S\n]*\*[^\*\n].*$", text, flags=re.MULTILINE)
    return len(starred) + len(re.findall(r"^[^\S\n]*-.*$", text, flags=re.MULTILINE))


def highlights(text):
    single = re.findall(r"\*[^\n\*]*\*", text)
    double = re.findall(r"\*\*[^\n\*]*\*\*", text)
    return sum(bool(x.strip("*").strip()) for x in single) + sum(bool(x[2:-2].strip()) for x in double)


def sections(text, splitter):
    return len(re.findall(r"\s?" + re.escape(splitter) + r"\s?\d+\s?", text))


def is_json(text):
    text = text.strip()
    for mark in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(mark)
    try:
        json.loads(text.removesuffix("```").strip())
        return True
    except (ValueError, RecursionError):
        return False


def title(text):
    for line in text.split("\n"):
        first, last = line.find("<<"), line.rfind(">>")
        if 0 <= first and first + 2 < last and line[first:last].strip("<>").strip():
            return True
    return False


def two_responses(text):
    pieces = text.split("******")
    answers = []
    for index, piece in enumerate(pieces):
        if piece.strip():
            answers.append(piece.strip())
        elif index not in (0, len(pieces) - 1):
            return False
    return len(answers) == 2 and answers[0] != answers[1]


def postscript(text, marker):
    text = text.lower()
    if marker == "P.P.S":
        return bool(re.search(r"p\.\s?p\.\s?s", text))
    if marker == "P.S.":
        return bool(re.search(r"p\.\s?s\.", text))
    return marker.lower() in text


def capitals(text):
    return sum(word.isupper() for word in re.findall(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*", text))


def keyword_count(text, keyword):
    return len(re.findall(re.escape(keyword), text, flags=re.IGNORECASE))


def forbidden(text, words):
    return any(re.search(r"\b" + re.escape(word) + r"\b", text, flags=re.IGNORECASE) for word in words)


CHECKS = {
    "keywords:existence": lambda t, a: all(keyword_count(t, word) for word in a["keywords"]),
    "keywords:frequency": lambda t, a: related(keyword_count(t, a["keyword"]), a["frequency"], a["relation"]),
    "keywords:forbidden_words": lambda t, a: not forbidden(t, a["forbidden_words"]),
    "keywords:letter_frequency": lambda t, a: related(
        t.lower().count(a["letter"].lower()), a["let_frequency"], a["let_relation"]
    ),
    "language:response_language": lambda t, a: language(t, a["language"]),
    "length_constraints:number_sentences": lambda t, a: related(sentences(t), a["num_sentences"], a["relation"]),
    "length_constraints:number_paragraphs": lambda t, a: paragraphs(t, a["num_paragraphs"]),
    "length_constraints:number_words": lambda t, a: related(len(re.findall(r"\w+", t)), a["num_words"], a["relation"]),
    "length_constraints:nth_paragraph_first_word": lambda t, a: nth_paragraph(
        t, a["num_paragraphs"], a["nth_paragraph"], a["first_word"]
    ),
    "detectable_content:number_placeholders": lambda t, a: placeholders(t) >= a["num_placeholders"],
    "detectable_content:postscript": lambda t, a: postscript(t, a["postscript_marker"]),
    "detectable_format:number_bullet_lists": lambda t, a: bullets(t) == a["num_bullets"],
    "detectable_format:constrained_response": lambda t, a: any(option in t for option in CONSTRAINED),
    "detectable_format:number_highlighted_sections": lambda t, a: highlights(t) >= a["num_highlights"],
    "detectable_format:multiple_sections": lambda t, a: sections(t, a["section_spliter"]) >= a["num_sections"],
    "detectable_format:json_format": lambda t, a: is_json(t),
    "detectable_format:title": lambda t, a: title(t),
    "combination:two_responses": lambda t, a: two_responses(t),
    "combination:repeat_prompt": lambda t, a: t.strip().lower().startswith(a["prompt_to_repeat"].strip().lower()),
    "startend:end_checker": lambda t, a: t.strip().strip('"').lower().endswith(a["end_phrase"].strip().lower()),
    "startend:quotation": lambda t, a: len(t.strip()) > 1 and t.strip()[0] == '"' == t.strip()[-1],
    "change_case:capital_word_frequency": lambda t, a: related(
        capitals(t), a["capital_frequency"], a["capital_relation"]
    ),
    "change_case:english_capital": lambda t, a: t.isupper() and english(t),
    "change_case:english_lowercase": lambda t, a: t.islower() and english(t),
    "punctuation:no_comma": lambda t, a: "," not in t,
}


def follows(kind, text, arguments):
    if kind not in CHECKS:
        raise Unknown(f"the instruction `{kind}` is not known")
    try:
        return bool(text.strip()) and bool(CHECKS[kind](text, arguments))
    except (KeyError, TypeError, AttributeError) as error:
        raise Unknown(f"`{kind}` has not the arguments it needs: {error!r}") from None


def variants(text):
    """The text, and without its first line, its last line, both, each also without asterisks."""
    lines = text.split("\n")
    cut = [text, "\n".join(lines[1:]).strip(), "\n".join(lines[:-1]).strip(), "\n".join(lines[1:-1]).strip()]
    return cut + [variant.replace("*", "") for variant in cut]


def rate(question, wants_all):
    if question["answer"] is None:
        return {"missing": "the row has no answer, which holds the instructions"}
    try:
        row = json.loads(question["answer"])
        kinds, arguments = row["instruction_id_list"], row["kwargs"]
        arguments = [{k: v for k, v in (one or {}).items() if v is not None} for one in arguments]
    except (ValueError, KeyError, TypeError, AttributeError):
        return {"missing": "the row's answer is not JSON with `instruction_id_list` and `kwargs`"}
    if not kinds or len(kinds) != len(arguments):
        return {"missing": "`instruction_id_list` and `kwargs` are empty or of different lengths"}
    text = (question["text"] or "")[:LONGEST_TEXT]
    try:
        strict = [follows(kind, text, one) for kind, one in zip(kinds, arguments)]
        loose = [any(follows(kind, t, one) for t in variants(text)) for kind, one in zip(kinds, arguments)]
    except Unknown as reason:
        return {"missing": str(reason)}
    share = sum(strict) / len(strict)
    metrics = {"all": float(all(strict)), "loose": sum(loose) / len(loose)}
    return {"value": float(all(strict)) if wants_all else share, "metrics": metrics}


def main():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    unknown = [argument for argument in sys.argv[1:] if argument != "--all"]
    if unknown:
        sys.exit(f"unknown argument `{unknown[0]}`; `--all` gives 1 only where all instructions are followed")
    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps({"id": question["id"], **rate(question, "--all" in sys.argv)}), flush=True)


if __name__ == "__main__":
    main()
