# Words of a text, and a sieve.
BEGIN { limit = 100000 }
{
  for (i = 1; i <= NF; ++i) if (++count[$i] > most) { most = count[$i]; word = $i }
  if (NR % 2000 == 0) {
    for (i = 2; i <= limit; ++i) composite[i] = 0
    primes = 0
    for (i = 2; i <= limit; ++i) {
      if (composite[i]) continue
      ++primes
      for (j = i + i; j <= limit; j += i) composite[j] = 1
    }
    print NR, primes, most, word, length($0) * primes
    limit += 5000
  }
  if (NR == steps) exit
}
END { print NR, most, word }
