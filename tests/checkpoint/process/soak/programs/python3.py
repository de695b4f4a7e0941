# Dictionaries, big numbers, sorting and two threads, with a hash of it all every now and then.
import hashlib
import random
import sys
import threading

steps = int(sys.argv[1])
chosen = random.Random(7)
counts = {}
seen = hashlib.sha256()
product = 1


def sort(numbers, out):
    out.append(sorted(numbers))


for step in range(steps):
    for _ in range(20000):
        key = chosen.randrange(100000)
        counts[key] = counts.get(key, 0) + chosen.random()
    product = product * (step + 3) ** 40 % (1 << 4000)
    halves = []
    values = list(counts.values())
    threads = [threading.Thread(target=sort, args=(values[i::2], halves)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    halves.sort()
    seen.update(repr((len(counts), product, halves[0][:50], halves[1][:50])).encode())
    print(step, len(counts), seen.hexdigest(), flush=step % 3 == 0)
