"""The lab's workloads: the pure-Python twins give what the kernels give, on any input."""

from __future__ import annotations

import random
import zlib
from collections import Counter
from urllib.request import urlopen

import plait
import pytest
from conftest import PATIENCE
from plait import kernels, pages, tasks
from plait.lab.crawl import serve_pages
from plait.lab.workloads import (
    WORKLOADS,
    add_counts,
    find_workload,
    library_files,
    mandelbrot_rows,
    prime_blocks,
)

SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
def test_primes_twin(seed):
    rng = random.Random(seed)
    below, block = rng.randrange(20_000), rng.randrange(1, 3_000)
    counted = sum(map(tasks.count_primes_in, prime_blocks(below, block)))
    assert counted == kernels.count_primes(below)


@pytest.mark.parametrize("seed", SEEDS)
def test_mandelbrot_twin(seed):
    rng = random.Random(seed)
    width, height, max_iter = rng.randrange(1, 60), rng.randrange(1, 60), rng.randrange(200)
    rows = [tasks.mandelbrot_row(row) for row in mandelbrot_rows(width, height, max_iter)]
    assert rows == kernels.mandelbrot(width, height, max_iter).tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_words_twin(seed):
    rng = random.Random(seed)
    alphabet = "ab\u00e4\u4e2d\U0001f600 \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u2003\u3000\u200b"
    texts = ["".join(rng.choices(alphabet, k=rng.randrange(500))) for _ in range(20)]
    counted = add_counts([tasks.count_words(text) for text in texts])
    assert counted == kernels.word_count(texts)
    assert counted == Counter(word for text in texts for word in text.split())


@pytest.mark.parametrize("seed", SEEDS)
def test_checksum_twin(seed):
    rng = random.Random(seed)
    contents = [rng.randbytes(rng.randrange(5_000)) for _ in range(10)]
    sums = [tasks.crc32_of(content) for content in contents]
    assert sums == kernels.crc32(contents) == [zlib.crc32(content) for content in contents]


@pytest.mark.parametrize("name", ["primes", "mandelbrot", "wordcount", "checksum"])
def test_a_workload_is_whole_and_its_kernel_takes_its_items(name):
    workload = find_workload(name)
    assert workload.native is not None
    with workload.items() as items:
        assert len(items) >= 100
        if name == "primes":  # the kernel counts from 0, so only all items make sense
            items = items[:10]
        elif name in ("wordcount", "checksum"):
            items = items[:30]
        else:
            items = mandelbrot_rows(40, 30, 50)
        value = workload.combine([workload.task(item) for item in items])
        native = workload.native(items, 2)
    assert value == (native.tolist() if name == "mandelbrot" else native)


def test_the_files_are_the_standard_librarys_own():
    files = library_files()
    assert len(files) > 400
    assert any(b"class Counter(dict)" in content for content in files)


def test_the_crawl_serves_hundreds_of_real_pages_and_each_is_verified():
    with serve_pages() as served:
        assert len(served) > 200
        assert pages.fetch(served[7]) > 0
        for fetch in (pages.fetch_async, pages.fetch_tokio):
            assert plait.aio.run(fetch(served[7])) == pages.fetch(served[7])
        wrong = served[7]._replace(digest=served[8].digest)
        with pytest.raises(ValueError, match=wrong.url):
            pages.fetch(wrong)
        url = served[0].url
    with pytest.raises(OSError, match="refused"):
        urlopen(url, timeout=PATIENCE)


def test_an_unknown_workload_is_refused_with_the_list():
    with pytest.raises(ValueError, match=r"'nope'.*primes.*crawl.*sleep"):
        find_workload("nope")
    assert {"primes", "mandelbrot", "wordcount", "checksum", "crawl", "sleep"} <= set(WORKLOADS)
