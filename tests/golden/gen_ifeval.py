"""Writes tests/rewards/ifeval.jsonl: texts with the verdicts of the published checks of IFEval.

The checks are those of lm_eval.tasks.ifeval (pip install lm_eval nltk langdetect immutabledict packaging). Sentences and
words in capitals need nltk's data and are left out, as is the language of a response.

    python tests/golden/gen_ifeval.py tests/rewards/ifeval.jsonl
"""

import importlib.util
import json
import pathlib
import random
import sys
import types

FOLDER = pathlib.Path(importlib.util.find_spec("lm_eval").origin).parent / "tasks" / "ifeval"
PIECES = """Hello world|The heart, which pumps blood, is an organ.|* point one|- point two|**bold text**|*em*|<<My Title>>
P.S. see you|P.P.S. again|[name]|[address]|SECTION 1|Section 2|***|******|{"a": 1}|```json
{"a": 2}
```|My answer is yes.|"quoted"|ALL CAPS HERE|lower case only|Any other questions?|


|Really? Yes.|heart heart heart""".replace("Title>>\n", "Title>>|").split("|")
BOTH = ("at least", "less than")
ARGUMENTS = {
    "keywords:existence": [{"keywords": ["heart", "blood"]}, {"keywords": ["hello"]}],
    "keywords:frequency": [{"keyword": "heart", "frequency": 2, "relation": r} for r in BOTH],
    "keywords:forbidden_words": [{"forbidden_words": ["blood", "caps"]}],
    "keywords:letter_frequency": [{"letter": "e", "let_frequency": 5, "let_relation": r} for r in BOTH],
    "length_constraints:number_paragraphs": [{"num_paragraphs": n} for n in (1, 2)],
    "length_constraints:number_words": [{"num_words": 12, "relation": r} for r in BOTH],
    "length_constraints:nth_paragraph_first_word": [
        {"num_paragraphs": n, "nth_paragraph": n, "first_word": w} for n in (1, 2) for w in ("hello", "the")
    ],
    "detectable_content:number_placeholders": [{"num_placeholders": n} for n in (1, 2)],
    "detectable_content:postscript": [{"postscript_marker": m} for m in ("P.S.", "P.P.S")],
    "detectable_format:number_bullet_lists": [{"num_bullets": n} for n in (1, 2)],
    "detectable_format:constrained_response": [{}],
    "detectable_format:number_highlighted_sections": [{"num_highlights": n} for n in (1, 2)],
    "detectable_format:multiple_sections": [{"section_spliter": s, "num_sections": 1} for s in ("SECTION", "Section")],
    "detectable_format:json_format": [{}],
    "detectable_format:title": [{}],
    "combination:two_responses": [{}],
    "combination:repeat_prompt": [{"prompt_to_repeat": "hello world"}],
    "startend:end_checker": [{"end_phrase": "Any other questions?"}],
    "startend:quotation": [{}],
    "change_case:english_capital": [{}],
    "change_case:english_lowercase": [{}],
    "punctuation:no_comma": [{}],
}


def published():
    """The published checks, without the download of nltk's data."""
    for name in ("lm_eval", "lm_eval.tasks", "lm_eval.tasks.ifeval"):
        sys.modules[name] = types.ModuleType(name)
    for name in ("instructions_util", "instructions", "instructions_registry"):
        text = (FOLDER / f"{name}.py").read_text().replace("\n\ndownload_nltk_resources()\n", "\n\n")
        module = types.ModuleType(f"lm_eval.tasks.ifeval.{name}")
        sys.modules[module.__name__] = module
        setattr(sys.modules["lm_eval.tasks.ifeval"], name, module)
        exec(compile(text, name, "exec"), module.__dict__)
    return sys.modules["lm_eval.tasks.ifeval.instructions_registry"].INSTRUCTION_DICT


def main():
    checks = published()
    random.seed(21)
    texts = []
    for _ in range(2000):
        count = random.choice([1, 1, 2, 3, 4, 6])
        text = "".join(random.choice(PIECES) + random.choice([" ", "\n", "\n\n"]) for _ in range(count)).strip()
        texts.append(random.choice([text, text, text.upper(), text.lower(), f'"{text}"']))
    with open(sys.argv[1], "w") as out:
        for kind, lists in ARGUMENTS.items():
            for arguments in lists:
                check = checks[kind](kind)
                check.build_description(**arguments)
                verdicts = {True: [], False: []}
                for text in texts:
                    if not text or kind.startswith("change_case:english") and len(text) < 40:
                        continue  # the language of a few letters is a guess
                    verdicts[bool(check.check_following(text))].append(text)
                for verdict, found in verdicts.items():
                    # a text near to the other verdict: the shortest, and one that has other parts
                    for text in sorted(set(found), key=lambda text: (len(text), text))[:2] + found[:1]:
                        answer = json.dumps({"instruction_id_list": [kind], "kwargs": [arguments]})
                        row = {"prompt": "Q", "completion": text, "answer": answer, "value": float(verdict)}
                        out.write(json.dumps(row) + "\n")


main()
