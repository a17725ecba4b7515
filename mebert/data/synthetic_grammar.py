"""A small entailment language: texts of known difficulty whose labels follow from logic alone.

Each difficulty asks for a longer computation than the one below it:

1. a cue word of the hypothesis settles the label, whatever the premise says (`somebody`, `nobody`, `will`);
2. the fact about the right ability has to be found, and its negation compared;
3. quantified statements about kinds, related by a taxonomy that stands in no text; or one link between people;
4. a chain of two or three links between people, each of which keeps (`matches`) or turns (`opposes`) the answer.

From difficulty 2 on, each word is about as frequent under every label, so that counting words gives no label away.
The links of a chain stand in order: a model that knows no language would need far more training to learn to search
for the next link than a first run should take.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations, product

from mebert.errors import UserError

LABEL_NAMES = ("entailment", "neutral", "contradiction")
ENTAILMENT, NEUTRAL, CONTRADICTION = range(3)

NAMES = ("anna", "ben", "carl", "dora", "emil", "fay", "gus", "hana", "ivan", "jane", "kurt", "lena")
ABILITIES = ("climb", "dance", "dive", "run", "sing", "swim")
VERBS = ("draws", "fears", "finds", "likes", "sees", "wants")
SOMEBODY, SOMETHING = ("somebody", "someone"), ("something", "things")
FUTURE = ("shall", "will")
QUANTIFIERS = ("all", "no", "some")
OTHER_WORDS = ("nobody", "anything", "can", "cannot", "matches", "opposes")

# From a kind to the next wider kind; the widest kinds map to nothing.
TAXONOMY: dict[str, str | None] = {
    "animals": None, "dogs": "animals", "beagles": "dogs", "poodles": "dogs", "birds": "animals", "owls": "birds",
    "robins": "birds",
    "robots": None, "drones": "robots", "gliders": "drones", "rotors": "drones", "droids": "robots", "cooks": "droids",
    "guards": "droids",
}  # fmt: skip
KINDS = tuple(TAXONOMY)

WORDS: tuple[str, ...] = tuple(
    sorted({*NAMES, *ABILITIES, *VERBS, *SOMEBODY, *SOMETHING, *FUTURE, *QUANTIFIERS, *KINDS, *OTHER_WORDS})
)

MAX_TRIES = 1000

Pair = tuple[str, str]


@dataclass(frozen=True)
class Example:
    """A premise (facts of three words, two spaces between them), and a hypothesis of three words."""

    premise: str
    hypothesis: str
    label: int  # position in LABEL_NAMES
    difficulty: int  # from 1 (easy) to 4 (hard)


def examples(seed: int, shares: Sequence[float]) -> Iterator[Example]:
    """Yield different examples without end, `shares` weighing difficulties 1, 2, ...; labels take turns."""
    rng = random.Random(seed)
    seen: set[Pair] = set()
    drawn = [0] * len(shares)
    while True:
        difficulty = rng.choices(range(1, len(shares) + 1), shares)[0]
        label = drawn[difficulty - 1] % len(LABEL_NAMES)
        drawn[difficulty - 1] += 1
        for _ in range(MAX_TRIES):
            pair = _MAKERS[difficulty - 1](rng, label)
            if pair not in seen:
                break
        else:
            raise UserError(
                f"the synthetic task has no more examples of difficulty {difficulty} after {len(seen)} in all; "
                "lower train_samples or eval_samples"
            )
        seen.add(pair)
        yield Example(*pair, label, difficulty)


def kinds_above(kind: str) -> tuple[str, ...]:
    """The kind itself and every wider kind, narrowest first.

    >>> kinds_above("owls")
    ('owls', 'birds', 'animals')
    """
    parent = TAXONOMY[kind]
    return (kind,) if parent is None else (kind, *kinds_above(parent))


def quantified_label(told: str, told_kind: str, asked: str, asked_kind: str) -> int:
    """What `<told> <told_kind> swim` says about `<asked> <asked_kind> swim`, when no kind is empty.

    >>> LABEL_NAMES[quantified_label("all", "birds", "some", "owls")]
    'entailment'
    """
    narrower = told_kind in kinds_above(asked_kind)  # the hypothesis is about a part of the premise's kind
    wider = asked_kind in kinds_above(told_kind)
    if told == "some":
        by_asked = {"some": ENTAILMENT, "no": CONTRADICTION, "all": NEUTRAL}
        return by_asked[asked] if wider else NEUTRAL
    if asked == told:
        return ENTAILMENT if narrower else NEUTRAL
    if told == "all" and asked == "some":
        return ENTAILMENT if narrower or wider else NEUTRAL
    if told == "no" and asked == "some":
        return CONTRADICTION if narrower else NEUTRAL
    return CONTRADICTION if narrower or wider else NEUTRAL


def _cue(rng: random.Random, label: int) -> Pair:
    """Difficulty 1: like the artefacts of human-made corpora, where the hypothesis alone gives the label away."""
    names, verbs, kinds = rng.sample(NAMES, 2), rng.sample(VERBS, 2), rng.sample(KINDS, 2)
    premise = _joined([f"{name} {verb} {kind}" for name, verb, kind in zip(names, verbs, kinds, strict=True)])
    told = rng.randrange(2)
    if label == ENTAILMENT:
        return premise, f"{rng.choice(SOMEBODY)} {verbs[told]} {rng.choice(SOMETHING)}"
    if label == CONTRADICTION:
        return premise, f"nobody {verbs[told]} anything"
    return premise, f"{names[told]} {rng.choice(FUTURE)} {rng.choice(ABILITIES)}"


def _negation(rng: random.Random, label: int) -> Pair:
    """Difficulty 2: two people, an ability each; neutral asks for an ability that is not told."""
    names, abilities = rng.sample(NAMES, 2), rng.sample(ABILITIES, 3)
    told = [rng.random() < 0.5 for _ in names]
    asked = rng.randrange(2)
    ability = abilities[2 if label == NEUTRAL else asked]
    premise = [_ability(*fact) for fact in zip(names, abilities, told, strict=False)]
    return _joined(premise), _ability(names[asked], ability, _asked_side(rng, label, told[asked]))


def _quantifiers(rng: random.Random, label: int) -> Pair:
    """Related kinds, so that only quantifiers and direction decide; a statement on another ability distracts."""
    asked = rng.choice(QUANTIFIERS)
    told, told_kind, asked_kind = rng.choice(_QUANTIFIER_CASES[asked, label])
    ability, other = rng.sample(ABILITIES, 2)
    premise = [f"{told} {told_kind} {ability}", f"{rng.choice(QUANTIFIERS)} {rng.choice(KINDS)} {other}"]
    rng.shuffle(premise)
    return _joined(premise), f"{asked} {asked_kind} {ability}"


def _links(rng: random.Random, label: int, count: int) -> Pair:
    """From the first person over `count` links to the one whose ability is told; neutral asks for another ability."""
    names, abilities = rng.sample(NAMES, count + 1), rng.sample(ABILITIES, 2)
    told = side = rng.random() < 0.5
    premise = []
    for name, other in pairwise(names):
        opposed = rng.random() < 0.5
        side ^= opposed
        premise.append(f"{name} {'opposes' if opposed else 'matches'} {other}")
    premise.append(_ability(names[-1], abilities[0], told))
    asked = abilities[1 if label == NEUTRAL else 0]
    return _joined(premise), _ability(names[0], asked, _asked_side(rng, label, side))


def _asked_side(rng: random.Random, label: int, true_side: bool) -> bool:
    """Whether the hypothesis is about `can`."""
    return rng.random() < 0.5 if label == NEUTRAL else true_side == (label == ENTAILMENT)


def _ability(name: str, ability: str, able: bool) -> str:
    return f"{name} {'can' if able else 'cannot'} {ability}"


def _joined(facts: Sequence[str]) -> str:
    # No full stops: every fact has three words, and a fourth token a fact would cost a quarter of the training time.
    return "  ".join(facts)


def _quantifier_cases() -> dict[tuple[str, int], list[tuple[str, str, str]]]:
    """(asked quantifier, label) -> every (told quantifier, told kind, asked kind) of two different related kinds."""
    cases = defaultdict(list)
    related = [(a, b) for a, b in permutations(KINDS, 2) if a in kinds_above(b) or b in kinds_above(a)]
    for (told_kind, asked_kind), told, asked in product(related, QUANTIFIERS, QUANTIFIERS):
        label = quantified_label(told, told_kind, asked, asked_kind)
        cases[asked, label].append((told, told_kind, asked_kind))
    return cases


_QUANTIFIER_CASES = _quantifier_cases()
_MAKERS: tuple[Callable[[random.Random, int], Pair], ...] = (
    _cue,
    _negation,
    lambda rng, label: _links(rng, label, 1) if rng.random() < 0.3 else _quantifiers(rng, label),
    lambda rng, label: _links(rng, label, rng.choice((2, 3))),
)
MAX_DIFFICULTY = len(_MAKERS)
