"""One classifier, or several over one tokenizer, asked by threads at once: each call gets what it gets alone."""

import multiprocessing
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tiny import tiny_model, words_tokenizer

from mebert import EarlyExitClassifier
from mebert.data import tokenizers
from mebert.data.tokenizers import encode_texts
from mebert.policies import Entropy

TEXTS = [" ".join(f"w{(7 * i + k * k) % 45}" for k in range(40)) for i in range(8)]
PAIRS = [(text, "w1 w2 w3 w4 w5 w6 w7 w8 w9") for text in TEXTS]
LENGTHS = [5, 9, 16, 40]
KEPT = {"device": "cpu", "precision": "float32"}


@pytest.fixture
def eager():
    """Threads that take turns as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def answers(classify, texts, length):
    found = classify(texts, max_length=length, threshold=0.0, batch_size=1)
    return [share for one in found for share in one.probabilities.values()]


def wrong_answers(jobs, wanted, rounds=6):
    """Jobs, each done again and again in a thread of its own, whose answers were once not as wanted."""
    ready = threading.Barrier(len(jobs))

    def work(job):
        ready.wait()
        return [job for _ in range(rounds) if answers(*job) != pytest.approx(wanted[job[1:]], abs=1e-5)]

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [job[1:] for part in pool.map(work, jobs) for job in part]


def test_lengths_and_pairs_of_threads_do_not_mix(eager):
    classify = EarlyExitClassifier(tiny_model(), words_tokenizer(), Entropy(0.5), **KEPT)
    jobs = [(classify, tuple(texts), length) for length in LENGTHS for texts in (TEXTS, PAIRS)]
    wanted = {job[1:]: answers(*job) for job in jobs}
    assert len({tuple(found) for found in wanted.values()}) == len(jobs), "each gives answers of its own"
    assert wrong_answers(jobs, wanted) == []


def test_a_tokenizer_that_others_use_and_change(eager):
    tokenizer, model = words_tokenizer(), tiny_model()
    right = EarlyExitClassifier(model, tokenizer, Entropy(0.5), **KEPT)
    tokenizer.truncation_side = "left"
    left = EarlyExitClassifier(model, tokenizer, Entropy(0.5), **KEPT)
    jobs = [(classify, tuple(TEXTS), length) for classify in (right, left) for length in LENGTHS[:2]]
    wanted = {}
    for side, classify in (("right", right), ("left", left)):
        fresh = words_tokenizer()
        fresh.truncation_side = side
        for length in LENGTHS[:2]:
            wanted[side, length] = answers(EarlyExitClassifier(model, fresh, Entropy(0.5), **KEPT), TEXTS, length)
            assert answers(classify, TEXTS, length) == pytest.approx(wanted[side, length], abs=1e-6)
    assert wanted["left", 5] != pytest.approx(wanted["right", 5], abs=1e-4)
    stop = threading.Event()

    def disturb():
        while not stop.is_set():
            tokenizer(TEXTS[0], truncation=True, max_length=4, padding="max_length")
            tokenizer(TEXTS[0])

    other = threading.Thread(target=disturb)
    other.start()
    try:
        for side, classify in (("right", right), ("left", left)):
            own = [job for job in jobs if job[0] is classify]
            assert wrong_answers(own, {job[1:]: wanted[side, job[2]] for job in own}) == []
    finally:
        stop.set()
        other.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_forked_while_a_thread_encodes_can_encode():
    """A copied lock that another thread holds would never be released."""
    with tokenizers._encoding:
        context = multiprocessing.get_context("fork")
        child = context.Process(target=encode_texts, args=(words_tokenizer(), [["w1 w2"]], 8))
        child.start()
        child.join(20)
        stuck = child.is_alive()
        child.kill()
        child.join()
    assert not stuck
    assert child.exitcode == 0
