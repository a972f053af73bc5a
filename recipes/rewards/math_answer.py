"""Compares a mathematical answer with the row's: 1 if they are equal, else 0.

A program for the reward component `command`:

    [stages.grpo.rewards.math]
    kind = "command"
    command = ["python3", "recipes/rewards/math_answer.py"]
    files = ["recipes/rewards/math_answer.py"]
    scope = "answer"

The answer of a text is its last `\\boxed{...}`, else what stands behind its last "answer is", else its last `$...$`, else
the whole text if it is one line, else the last line. Numbers, LaTeX and plain notation are read.

Expressions are equal if their values are: exact fractions where possible, else 60 digits. With variables, they are
compared at eight fixed points. So `1/2004!` is not `1/2006!`, and `(x+1)^2` is `x^2+2x+1`. A decimal number of four or
more digits equals what rounds to it. `50\\%` equals `50` and `0.5`. Units and `x =` before a value are left out.
Lists and sets are equal in any order; tuples, intervals, ratios, matrices and lists with dots only in the same order and
with the same brackets. What cannot be parsed must be the same text but for white space.

Numbers of more than 65,536 bits, expressions of more than 2,000 tokens and more than a fixed amount of work are not
computed. A text that needs them has the value 0; a row's answer that does is missing. The limits count work and not
seconds, so the value is the same on every machine.

With the argument `--audit`, and if the package `math-verify` is installed, its verdict is compared: `metrics` then has
`audit_differs`. It never changes the value.
"""

import json
import re
import resource
import signal
import sys
from decimal import Context, Decimal, InvalidOperation, localcontext
from fractions import Fraction
from math import comb, factorial, isqrt

MEMORY_BYTES = 2 << 30
SECONDS = 20  # a second defence behind the limits that count work
LONGEST_TEXT = 200_000
LONGEST_ANSWER = 4_000
TOKENS = 2_000
DEPTH = 60
BITS = 65_536
WORK = 50_000
DIGITS = 60
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534")
POINTS = 8
NEEDED_POINTS = 3
FUNCTIONS = {
    "sqrt", "ln", "log", "lg", "exp", "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "abs",
    "gcd", "lcm", "min", "max", "floor", "ceil",
}  # fmt: skip
NAME = re.compile(r"^\\?[A-Za-z]+(_(\{[^{}]*\}|\w))?'*(\([A-Za-z](,[A-Za-z])*\))?$")
THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")


class Unreadable(Exception):
    """A text that is no expression."""


class TooMuch(Exception):
    """An expression that takes more than the limits."""


class Undefined(Exception):
    """A value that does not exist at a point."""


class Budget:
    """The work that is left."""

    left = WORK

    @classmethod
    def spend(cls, *numbers):
        bits = max((size(number) for number in numbers), default=0)
        if bits > BITS:
            raise TooMuch("a number has too many digits")
        cls.left -= 1 + (bits // 1000) ** 2
        if cls.left < 0:
            raise TooMuch("it takes too much work")


def size(number):
    if isinstance(number, Fraction):
        return max(number.numerator.bit_length(), number.denominator.bit_length())
    return 0


# --- numbers: pairs of a real and an imaginary part, each a Fraction or a Decimal ---


def both(a, b):
    """Both numbers of one type; the exact one gives way."""
    if isinstance(a, Decimal) or isinstance(b, Decimal):
        return decimal(a), decimal(b)
    return a, b


def decimal(a):
    return a if isinstance(a, Decimal) else Decimal(a.numerator) / Decimal(a.denominator)


def add(a, b):
    Budget.spend(*a, *b)
    pairs = [both(x, y) for x, y in zip(a, b)]
    return tuple(x + y for x, y in pairs)


def negative(a):
    return (-a[0], -a[1])


def product(x, y):
    if x == 0 or y == 0:
        return Fraction(0)
    x, y = both(x, y)
    if isinstance(x, Fraction) and size(x) + size(y) > BITS:
        raise TooMuch("a number has too many digits")
    return x * y


def difference(x, y):
    x, y = both(x, y)
    return x - y


def times(a, b):
    Budget.spend(*a, *b)
    real = difference(product(a[0], b[0]), product(a[1], b[1]))
    imaginary = difference(product(a[0], b[1]), -product(a[1], b[0]))
    return (real, imaginary)


def over(a, b):
    Budget.spend(*a, *b)
    norm = difference(product(b[0], b[0]), -product(b[1], b[1]))
    if norm == 0:
        raise Undefined
    above = times(a, (b[0], -b[1]))
    return tuple(x / y for x, y in (both(part, norm) for part in above))


def real(a):
    if a[1] != 0:
        raise Undefined
    return a[0]


def integer(a, most):
    a = real(a)
    if not isinstance(a, Fraction) or a.denominator != 1:
        raise Undefined
    if abs(a) > most:
        raise TooMuch("an integer is too large")
    return int(a)


def power(a, b):
    Budget.spend(*a, *b)
    exponent = real(b)
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        if abs(exponent) > BITS or size(a[0]) * abs(exponent) > 2 * BITS:
            raise TooMuch("a power is too large")
        result, base, left = (Fraction(1), Fraction(0)), a, abs(int(exponent))
        while left:
            if left & 1:
                result = times(result, base)
            left >>= 1
            if left:
                base = times(base, base)
        return result if exponent >= 0 else over((Fraction(1), Fraction(0)), result)
    base = real(a)
    if base == 0:
        if exponent > 0:
            return (Fraction(0), Fraction(0))
        raise Undefined
    if isinstance(exponent, Fraction) and exponent.denominator <= 64:
        root = nth_root(base, exponent.denominator)
        if root is not None:
            return power((root, Fraction(0)), (Fraction(exponent.numerator), Fraction(0)))
    if base < 0:
        if exponent == Fraction(1, 2):
            return times((Fraction(0), Fraction(1)), power((-base, Fraction(0)), b))
        raise Undefined
    return (exponential(decimal(exponent) * decimal(base).ln()), Fraction(0))


def nth_root(number, degree):
    """The exact real root of a fraction; None where it has none."""
    if not isinstance(number, Fraction) or (number < 0 and degree % 2 == 0):
        return None
    parts = []
    for part in (abs(number.numerator), number.denominator):
        root = isqrt(part) if degree == 2 else integer_root(part, degree)
        if root**degree != part:
            return None
        parts.append(root)
    return Fraction(-parts[0] if number < 0 else parts[0], parts[1])


def integer_root(number, degree):
    low, high = 0, 1 << (number.bit_length() // degree + 1)
    while low < high:
        middle = (low + high + 1) // 2
        Budget.spend()
        if middle**degree <= number:
            low = middle
        else:
            high = middle - 1
    return low


def exponential(x):
    if abs(x) > 10_000:
        raise TooMuch("a power is too large")
    return decimal(x).exp()


def sine(x):
    x = decimal(x)
    if abs(x) > 1_000_000:
        raise TooMuch("an angle is too large")
    x -= 2 * PI * (x / (2 * PI)).to_integral_value()
    term, total, n = x, x, 1
    while abs(term) > Decimal(10) ** -(DIGITS + 5):
        term *= -x * x / ((n + 1) * (n + 2))
        total += term
        n += 2
    return total if abs(total) > Decimal(10) ** -(DIGITS - 10) else Fraction(0)


def cosine(x):
    return sine(decimal(x) + PI / 2)


def arctangent(x):
    x = decimal(x)
    halvings = 0
    while abs(x) > Decimal("0.1"):
        x = x / (1 + (1 + x * x).sqrt())
        halvings += 1
    term, total, n = x, x, 1
    while abs(term) > Decimal(10) ** -(DIGITS + 5):
        term *= -x * x
        n += 2
        total += term / n
    return total * 2**halvings


def call(name, arguments, base=None):
    Budget.spend(*(part for argument in arguments for part in argument))
    zero = Fraction(0)
    if name == "abs" and arguments[0][1] != 0:
        a, b = arguments[0]
        squares = difference(product(a, a), -product(b, b))
        return power((squares, zero), (Fraction(1, 2), zero))
    x = [real(argument) for argument in arguments]
    if name == "sqrt":
        return power(arguments[0], over((Fraction(1), zero), base or (Fraction(2), zero)))
    if name in ("gcd", "lcm"):
        result = 0 if name == "gcd" else 1
        for argument in arguments:
            n, m = result, integer(argument, 10**30)
            while m:
                n, m = m, n % m
            result = abs(n) if name == "gcd" else abs(result * integer(argument, 10**30)) // max(abs(n), 1)
        return (Fraction(result), zero)
    if name in ("min", "max"):
        return ((min if name == "min" else max)(x, key=decimal), zero)
    x = x[0]
    if name in ("floor", "ceil"):
        down = (x if name == "floor" else -x).__floor__() if isinstance(x, Fraction) else None
        if down is None:
            raise Undefined
        return (Fraction(down if name == "floor" else -down), zero)
    if name == "abs":
        return (abs(x), zero)
    if name == "exp":
        return (Fraction(1) if x == 0 else exponential(x), zero)
    if name in ("ln", "log", "lg"):
        if x <= 0:
            raise Undefined
        if x == 1:
            return (zero, zero)
        value = decimal(x).ln()
        ten = (Fraction(10), zero)
        if name != "ln" and (base or name == "lg"):
            below = real(base or ten)
            if below <= 0 or below == 1:
                raise Undefined
            value = value / decimal(below).ln()
            near = value.to_integral_value()
            if abs(value - near) < Decimal(10) ** -(DIGITS - 10):
                return (Fraction(int(near)), zero)
        return (value, zero)
    if name in ("arcsin", "arccos"):
        d = decimal(x)
        if abs(d) > 1:
            raise Undefined
        inner = PI / 2 if d == 1 else -PI / 2 if d == -1 else arctangent(d / (1 - d * d).sqrt())
        return (inner if name == "arcsin" else PI / 2 - inner, zero)
    if name == "arctan":
        return (arctangent(x), zero)
    s, c = (sine(x), zero), (cosine(x), zero)
    one = (Fraction(1), zero)
    table = {"sin": (s, one), "cos": (c, one), "tan": (s, c), "cot": (c, s), "sec": (one, c), "csc": (one, s)}
    return over(*table[name])


# --- expressions ---

TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+|\\[A-Za-z]+|[A-Za-z]|\S)")


class Parser:
    """Reads an expression into nested tuples."""

    def __init__(self, text):
        self.tokens = TOKEN.findall(text)
        if len(self.tokens) > TOKENS:
            raise TooMuch("it is too long")
        self.at = 0
        self.depth = 0

    def peek(self):
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def next(self):
        token = self.peek()
        self.at += 1
        return token

    def expect(self, token):
        if self.next() != token:
            raise Unreadable

    def whole(self):
        node = self.sum()
        if self.peek():
            raise Unreadable
        return node

    def sum(self):
        self.depth += 1
        if self.depth > DEPTH:
            raise TooMuch("it is nested too deeply")
        node = self.term()
        while self.peek() in ("+", "-"):
            sign = self.next()
            right = self.term()
            node = ("add", node, right if sign == "+" else ("negative", right))
        self.depth -= 1
        return node

    def term(self):
        signs = 0
        while self.peek() in ("+", "-"):
            signs += self.next() == "-"
        node = self.factor()
        while True:
            token = self.peek()
            if token in ("*", "/"):
                self.next()
                divide = token == "/"
                negated = 0
                while self.peek() in ("+", "-"):
                    negated += self.next() == "-"
                right = self.factor()
                signs += negated
                node = ("over" if divide else "times", node, right)
            elif token and (token[0].isalnum() or token[0] in "\\(.{|") and token != "|":
                if self.is_mixed(node, token):
                    node = ("add", node, self.factor())
                else:
                    node = ("times", node, self.factor())
            else:
                break
        return ("negative", node) if signs % 2 else node

    def is_mixed(self, node, token):
        """Whether `1\\frac{1}{2}` is read: an integer before a fraction of integers."""
        if token != "\\frac" or node[0] != "number" or node[1].denominator != 1:
            return False
        return re.match(r"(\{\d+\}|\d+)(\{\d+\}|\d+)", "".join(self.tokens[self.at + 1 : self.at + 7])) is not None

    def factor(self):
        node = self.atom()
        while True:
            token = self.peek()
            if token == "^":
                self.next()
                node = ("power", node, self.argument())
            elif token == "!":
                self.next()
                node = ("factorial", node)
            else:
                return node

    def argument(self):
        """A group in braces, or one token: `^2`, `\\frac12`; a sign may precede it."""
        if self.peek() == "{":
            return self.group("{", "}")
        if self.peek() in ("-", "+"):
            sign = self.next()
            node = self.argument()
            return ("negative", node) if sign == "-" else node
        token = self.peek()
        if token and token[0].isdigit() and len(token) > 1 and "." not in token and self.tokens[self.at - 1] != "^":
            self.tokens[self.at] = token[1:]
            return ("number", Fraction(token[0]))
        if token == "(":
            return self.group("(", ")")
        return self.atom()

    def group(self, opening, closing):
        self.expect(opening)
        node = self.sum()
        self.expect(closing)
        return node

    def atom(self):
        self.depth += 1
        if self.depth > DEPTH:
            raise TooMuch("it is nested too deeply")
        node = self.bare_atom()
        self.depth -= 1
        return node

    def bare_atom(self):
        token = self.next()
        if not token:
            raise Unreadable
        if token[0].isdigit() or token[0] == ".":
            if len(token) > BITS // 4:
                raise TooMuch("a number has too many digits")
            return ("number", Fraction(token))
        if token in ("(", "{", "["):
            self.at -= 1
            return self.group(token, {"(": ")", "{": "}", "[": "]"}[token])
        if token == "|":
            node = self.sum()
            self.expect("|")
            return ("call", "abs", [node], None)
        if token == "\\frac":
            above = self.argument()
            return ("over", above, self.argument())
        if token == "\\binom":
            above = self.argument()
            return ("binom", above, self.argument())
        if token == "\\pi":
            return ("pi",)
        name = token.lstrip("\\")
        if token[0] == "\\" and name in FUNCTIONS:
            return self.function(name)
        if token[0] == "\\" and name not in GREEK:
            raise Unreadable
        if self.peek() == "_":
            self.next()
            if self.peek() == "{":
                end = self.at
                while end < len(self.tokens) and self.tokens[end] != "}":
                    end += 1
                name += "_" + "".join(self.tokens[self.at : end + 1])
                self.at = end + 1
            else:
                name += "_" + self.next()
            return ("variable", name)
        if name == "e":
            return ("e",)
        if name == "i":
            return ("i",)
        if not name[:1].isalpha():
            raise Unreadable
        return ("variable", name)

    def function(self, name):
        base = exponent = None
        if name == "sqrt" and self.peek() == "[":
            base = self.group("[", "]")
        if name == "log" and self.peek() == "_":
            self.next()
            base = self.argument()
        if self.peek() == "^":
            self.next()
            exponent = self.argument()
        if self.peek() in ("(", "{"):
            closing = {"(": ")", "{": "}"}[self.next()]
            arguments = [self.sum()]
            while self.peek() == ",":
                self.next()
                arguments.append(self.sum())
            self.expect(closing)
        elif name == "sqrt":
            arguments = [self.argument()]
        else:
            node = self.factor()
            while self.peek() and (self.peek()[0].isalnum() or self.peek() in ("\\pi", "\\frac")):
                node = ("times", node, self.factor())
            arguments = [node]
        node = ("call", name, arguments, base)
        return ("power", node, exponent) if exponent is not None else node


GREEK = set(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi varphi chi psi "
    "omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega infty".split()
)


def variables(node, found):
    if node[0] == "variable":
        found.add(node[1])
    for part in node[1:]:
        if isinstance(part, tuple):
            variables(part, found)
        elif isinstance(part, list):
            for one in part:
                variables(one, found)
    return found


def value(node, point):
    kind = node[0]
    zero = Fraction(0)
    if kind == "number":
        return (node[1], zero)
    if kind == "pi":
        return (PI, zero)
    if kind == "e":
        return (Decimal(1).exp(), zero)
    if kind == "i":
        return (zero, Fraction(1))
    if kind == "variable":
        return (point[node[1]], zero)
    if kind == "negative":
        return negative(value(node[1], point))
    if kind == "factorial":
        n = integer(value(node[1], point), 5_000)
        if n < 0:
            raise Undefined
        return (Fraction(factorial(n)), zero)
    if kind == "call":
        base = value(node[3], point) if node[3] is not None else None
        return call(node[1], [value(argument, point) for argument in node[2]], base)
    if kind == "power" and node[1] == ("e",):
        x, y = value(node[2], point)
        length = call("exp", [(x, zero)])
        return length if y == 0 else times(length, (cosine(y), sine(y)))
    left, right = value(node[1], point), value(node[2], point)
    if kind == "binom":
        n, k = integer(left, 5_000), integer(right, 5_000)
        return (Fraction(comb(n, k)) if 0 <= k <= n else zero, zero)
    return {"add": add, "times": times, "over": over, "power": power}[kind](left, right)


def same_number(x, y):
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        return x == y
    x, y = decimal(x), decimal(y)
    largest = max(abs(x), abs(y))
    if x == 0 or y == 0:
        return largest < Decimal(10) ** -45
    return abs(x - y) <= largest * Decimal(10) ** -35


def points(names):
    names = sorted(names)
    for index in range(POINTS):
        yield {
            name: Fraction((7 * index + 3) * (place + 2) + 11 * place + 1, 5 + 3 * index + place)
            for place, name in enumerate(names)
        }


def same_expression(a, b):
    names = variables(a, variables(b, set()))
    if "infty" in names and (a != b):
        return False
    compared = 0
    for point in points(names):
        try:
            x, y = value(a, point), value(b, point)
        except (Undefined, ZeroDivisionError, InvalidOperation):
            continue
        if not (same_number(x[0], y[0]) and same_number(x[1], y[1])):
            return False
        compared += 1
        if not names:
            return True
    return compared >= NEEDED_POINTS


def proportional(a, b):
    """Whether a = 0 and b = 0 are the same equation: their ratio is the same at all points."""
    ratio, compared = None, 0
    for point in points(variables(a, variables(b, set()))):
        try:
            x, y = value(a, point), value(b, point)
            here = over(x, y)
        except (Undefined, ZeroDivisionError, InvalidOperation):
            continue
        if ratio is not None and not (same_number(here[0], ratio[0]) and same_number(here[1], ratio[1])):
            return False
        ratio = here
        compared += 1
    return compared >= NEEDED_POINTS and ratio != (0, 0)


# --- answers ---

WORDS = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname|rm)\s*\{([^{}]*)\}")


def cleaned(text):
    """The answer without what does not count: spacing, dollars, sizes of brackets, words of units."""

    def words(found):
        inside = found.group(1).strip()
        if inside.lower().strip(" ,") in ("and", "or"):
            return ","
        if inside in FUNCTIONS:
            return f"\\{inside} "
        if re.fullmatch(r"[\d.,/ ]+|[A-Za-z]", inside):
            return f" {inside} "
        return f" \\words{{{inside}}} "

    text = text.replace("\\\\", " \\newrow ")
    text = text.replace("\\$", " ").replace("{,}", "").replace("\u2212", "-").replace("\u00d7", "*").replace("\u03c0", "\\pi ")
    text = text.replace("\u221e", "\\infty ").replace("\u221a", "\\sqrt ").replace("\u00b0", " ").replace("\u20ac", " ")
    text = re.sub(r"\\[()\[\],;:! ]|\\q?quad\b|[$~]|\\displaystyle\b|\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])", " ", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\\degree\b", " ", text)
    text = WORDS.sub(words, text)
    text = re.sub(r"\\[dtc]frac\b", r"\\frac", text)
    text = re.sub(r"\\(?:cdot|times|ast)\b", "*", text)
    text = re.sub(r"\\div\b", "/", text)
    text = re.sub(r"\\(?:l|c)?dots\b|\.\.\.|\u2026", " \\\\dots ", text)
    text = re.sub(r"\\(?:leq?|leqslant)\b|<=|\u2264", " \u2264 ", text)
    text = re.sub(r"\\(?:geq?|geqslant)\b|>=|\u2265", " \u2265 ", text)
    text = re.sub(r"\\lt\b", "<", re.sub(r"\\gt\b", ">", text))
    text = re.sub(r"\\(?:neq?)\b|!=|\u2260", " \u2260 ", text)
    text = re.sub(r"\\[lr]vert\b|\\mid\b", "|", text)
    text = re.sub(r"\\(?:infin|infty)\b", r"\\infty ", text)
    text = re.sub(r"\\?%", " \\\\percent ", text)
    text = text.replace("**", "^").replace("\\{", "\\lbrace ").replace("\\}", "\\rbrace ")
    text = re.sub(r"\b(sqrt|ln|log|sin|cos|tan|exp|pi|infty)\b(?<!\\sqrt)(?<!\\ln)(?<!\\log)(?<!\\sin)(?<!\\cos)(?<!\\tan)(?<!\\exp)(?<!\\pi)(?<!\\infty)", r"\\\1 ", text)
    text = THOUSANDS.sub(lambda found: found.group().replace(",", ""), text)
    text = re.sub(r"(?<=[\d}]) +[A-Za-z]{2,}(?:\^\{?\d\}?)?\.?\s*$", "", text)
    text = re.sub(r"\s+(?:and|or)\s+", ", ", text)
    return text.strip().rstrip(".").strip()


OPENING = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1, "\\lbrace": 1, "\\rbrace": -1}
PIECE = re.compile(r"\\[A-Za-z]+|.", re.DOTALL)


def split(text, separators):
    """The parts between separators outside of brackets."""
    parts, depth, start = [], 0, 0
    for found in PIECE.finditer(text):
        token = found.group()
        depth += OPENING.get(token, 0)
        if depth == 0 and token in separators:
            parts.append(text[start : found.start()])
            start = found.end()
    return [part.strip() for part in [*parts, text[start:]]]


def listed(text, depth=0):
    """A list of items, each ("KIND", ...)."""
    if depth > 6:
        raise TooMuch("it is nested too deeply")
    items = []
    for part in split(text, {",", ";"}):
        if part:
            items.extend(item(part, depth))
    return items


def item(text, depth):
    """The items of a text without a comma outside of brackets; two for a plus-or-minus sign."""
    sides = split(text, {"=", "\\in"})
    if len(sides) == 2 and not NAME.match(sides[0].replace(" ", "")):
        return [("equation", sides[0], sides[1])]
    text = sides[-1]
    if "\\dots" in text:
        return [("text", "".join(text.split()))]
    if "\\pm" in text:
        return [one for sign in "+-" for one in item(re.sub(r"\\pm\b", sign, text), depth)]
    relation = re.split("([<>\u2264\u2265\u2260])", text)
    if len(relation) > 1:
        if relation[1] in ">\u2265":
            flipped = {">": "<", "\u2265": "\u2264"}
            relation = [flipped.get(part, part) for part in reversed(relation)]
        return [("relation", [p if p in "<\u2264\u2260" else item(p, depth + 1) for p in relation if p.strip()])]
    matrix = re.fullmatch(r"\\begin\{([a-z]*)matrix\}(.*)\\end\{\1matrix\}", text, re.DOTALL)
    if matrix:
        rows = [row for row in matrix.group(2).split("\\newrow") if row.strip()]
        cells = [[listed(cell, depth + 1) for cell in row.split("&")] for row in rows]
        return [("matrix", cells)]
    union = split(text, {"\\cup"})
    if len(union) > 1:
        return [("set", [one for part in union for one in item(part, depth + 1)])]
    if text.startswith("\\lbrace") and text.endswith("\\rbrace"):
        return [("set", listed(text[7:-7], depth + 1))]
    inside = text[1:-1]
    if text[:1] in ("(", "[") and text[-1:] in (")", "]") and len(split(inside, {","})) > 1 and balanced(inside):
        parts = split(inside, {","})
        return [("tuple", text[0] + text[-1], [listed(part, depth + 1) for part in parts])]
    ratio = split(text, {":"})
    if len(ratio) > 1:
        return [("ratio", [item(part, depth + 1) for part in ratio if part])]
    return [expression(text)]


def balanced(text):
    depth = 0
    for found in PIECE.finditer(text):
        depth += OPENING.get(found.group(), 0)
        if depth < 0:
            return False
    return depth == 0


def expression(text):
    words = re.fullmatch(r"\s*\\words\{([^{}]*)\}\s*", text)
    if words:
        return ("text", words.group(1).strip(" ().").lower())
    percent = "\\percent" in text
    plain = re.sub(r"\\words\{[^{}]*\}|\\percent", " ", text)
    try:
        node = Parser(plain).whole()
    except Unreadable:
        return ("text", "".join(text.split()).lower() if text.isalpha() else "".join(text.split()))
    written = re.fullmatch(r"\s*-?\d*\.(\d+)\s*", plain)
    places = len(written.group(1)) if written else None
    return ("expression", node, percent, places, "".join(text.split()).lower())


def rounds_to(node, written, places):
    """Whether `node` is near enough to be written as the decimal `written`."""
    x, y = value(node, {}), value(written, {})
    if len(f"{abs(real(y)) * 10**places}".lstrip("0")) < 4:
        return False
    return x[1] == 0 and abs(decimal(x[0]) - decimal(y[0])) * 2 <= Decimal(10) ** -places


def same_item(a, b):
    if a[0] == b[0] == "expression":
        (_, x, x_percent, x_places, _), (_, y, y_percent, y_places, _) = a, b
        if same_expression(x, y):
            return True
        if x_percent != y_percent:
            hundred = ("number", Fraction(100))
            x, y = (("over", x, hundred), y) if x_percent else (x, ("over", y, hundred))
            return same_expression(x, y)
        if variables(x, variables(y, set())) or (x_places is None) == (y_places is None):
            return False
        try:
            return rounds_to(x, y, y_places) if x_places is None else rounds_to(y, x, x_places)
        except (Undefined, ZeroDivisionError, InvalidOperation):
            return False
    if a[0] == "equation" or b[0] == "equation":
        if a[0] == b[0]:
            sides = [[Parser(side).whole() for side in one[1:]] for one in (a, b)]
            return proportional(*(("add", left, ("negative", right)) for left, right in sides))
        a, b = (one if one[0] != "equation" else item(one[2], 1)[0] for one in (a, b))
        return same_item(a, b)
    if {a[0], b[0]} <= {"text", "expression"}:
        return a[-1] == b[-1]
    if a[0] != b[0]:
        return False
    if a[0] == "set":
        return same_set(a[1], b[1])
    if a[0] == "tuple":
        return a[1] == b[1] and same_sequence(a[2], b[2])
    if a[0] == "matrix":
        return len(a[1]) == len(b[1]) and all(same_sequence(x, y) for x, y in zip(a[1], b[1]))
    return same_sequence(a[1], b[1])


def same_sequence(a, b):
    if len(a) != len(b):
        return False
    return all(x == y if isinstance(x, str) or isinstance(y, str) else same_set(x, y) for x, y in zip(a, b))


def same_set(a, b):
    """Whether each item of one has its own equal in the other."""
    if len(a) != len(b) or len(a) > 200:
        return False
    left = list(b)
    for one in a:
        found = next((index for index, other in enumerate(left) if same_item(one, other)), None)
        if found is None:
            return False
        left.pop(found)
    return True


def read(text):
    items = listed(cleaned(text))
    if len(items) == 1 and items[0][0] == "set":
        items = items[0][1]
    dots = [one[0] == "text" and "\\dots" in one[1] for one in items]
    return (any(dots), items)


def same_answer(a, b):
    (a_dots, a_items), (b_dots, b_items) = a, b
    if not a_items or a_dots != b_dots:
        return False
    if a_dots:
        return len(a_items) == len(b_items) and all(same_item(x, y) for x, y in zip(a_items, b_items))
    return same_set(a_items, b_items)


def boxed(text):
    """The content of the last `\\boxed{...}` that is closed."""
    for start in [found.end() for found in re.finditer(r"\\f?boxed\s*\{", text)][: -11 : -1]:
        depth = 1
        for at in range(start, min(len(text), start + LONGEST_ANSWER)):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            if depth == 0:
                return text[start:at]
    return None


def answer_in(text):
    text = text[-LONGEST_TEXT:].strip()
    found = boxed(text)
    if found is not None:
        return found
    said = list(re.finditer(r"(?i)\banswer(?: is|:)", text))
    if said:
        rest = text[said[-1].end() :].strip(" :*\n")
        text = rest.split("\n")[0]
    dollars = re.findall(r"\$\$?([^$\n]+)\$", text)
    if dollars:
        return dollars[-1]
    lines = [line for line in text.split("\n") if line.strip()]
    return lines[-1].strip(" *") if lines else ""


def audit(answer, text, verdict):
    try:
        from math_verify import parse, verify
    except ImportError:
        return {}
    try:
        gold, found = (parse(f"${one}$", parsing_timeout=None) for one in (answer, text))
        other = bool(verify(gold, found, timeout_seconds=None))
    except Exception:  # noqa: BLE001 - whatever it raises is no verdict
        return {}
    return {"audit_differs": float(other != bool(verdict))}


def rate(question, wants_audit):
    answer = question["answer"]
    if answer is None or not answer.strip():
        return {"missing": "the row has no answer"}
    with localcontext(Context(prec=DIGITS, traps=[InvalidOperation])):
        Budget.left = WORK
        wanted = boxed(answer) or answer
        try:
            gold = read(wanted[:LONGEST_ANSWER])
            same_answer(gold, gold)
        except (TooMuch, Unreadable, RecursionError, OverflowError) as error:
            return {"missing": f"the row's answer is not computed: {error or 'it cannot be read'}"}
        Budget.left = WORK
        found = answer_in(question["text"] or "")
        try:
            verdict = len(found) <= LONGEST_ANSWER and same_answer(gold, read(found))
            is_read = True
        except (TooMuch, Unreadable, RecursionError, OverflowError):
            verdict = is_read = False
    result = {"value": float(verdict)}
    if wants_audit and is_read:  # the package has no limits of its own
        result["metrics"] = audit(wanted, found[:LONGEST_ANSWER], verdict)
    return result


def too_slow(_signal, _frame):
    raise TimeoutError


def main():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, too_slow)
    unknown = [argument for argument in sys.argv[1:] if argument != "--audit"]
    if unknown:
        sys.exit(f"unknown argument `{unknown[0]}`; `--audit` compares with math-verify")
    for line in sys.stdin:
        question = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            answer = rate(question, "--audit" in sys.argv)
        except TimeoutError:
            answer = {"missing": f"it took more than {SECONDS} s"}
        except MemoryError:
            answer = {"missing": "it took more than 2 GiB"}
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps({"id": question["id"], **answer}), flush=True)


if __name__ == "__main__":
    main()
